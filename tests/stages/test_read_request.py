"""What is taken from a request, and what is refused because it could be read in two ways."""

import gzip
import json
from typing import Any

import pytest
from calls import CHAT, JSON, House, call

from mitmgate.bodies import MemoryBody, SpooledBody
from mitmgate.errors import Refusal
from mitmgate.exchange import Exchange
from mitmgate.runtime import Snapshot
from mitmgate.stages.read_request import read_request

SECRET = "sk-what-the-user-wrote"
FORM = {"content-type": "multipart/form-data; boundary=XX"}


@pytest.fixture
def services(house: House) -> Snapshot:
    return house.snapshot("limits: {request_body: 1MiB}\n")


async def refusal(exchange: Exchange, services: Snapshot) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await read_request(exchange, services)
    assert SECRET not in caught.value.message
    assert exchange.document is None or caught.value.param is not None
    return caught.value


async def test_a_chat(services: Snapshot) -> None:
    raw = b' { "model":"gpt-4o", "stream": true, "n":3,"messages":[{"role":"user"}], "x":1.0 } '
    exchange = call(body=raw, headers=JSON)
    await read_request(exchange, services)
    assert exchange.document == json.loads(raw)
    assert exchange.raw == raw
    assert (exchange.requested_model, exchange.stream, exchange.model_span) == ("gpt-4o", True, None)


@pytest.mark.parametrize(
    ("target", "document", "model"),
    [
        ("/v1/chat/completions", {"messages": [{}]}, "auto"),
        ("/v1/chat/completions", {"messages": [{}], "model": None}, "auto"),
        ("/v1/embeddings", {"input": "a"}, None),
        ("/v1/embeddings", {"input": "a", "model": "é" * 256}, "é" * 256),
        ("/openai/deployments/d/chat/completions", {"messages": [{}], "model": "other"}, "d"),
        ("/v1/responses", {"input": "a", "model": "gpt-5"}, "gpt-5"),
        ("/v1/files", {"anything": 1, "model": "m"}, "m"),
    ],
)
async def test_the_model(services: Snapshot, target: str, document: dict[str, Any], model: str | None) -> None:
    exchange = call(target, document)
    await read_request(exchange, services)
    assert exchange.requested_model == model
    assert not exchange.stream


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8",
    'application/json;charset="utf8"'],
)
async def test_content_types_that_are_json(services: Snapshot, content_type: str) -> None:
    exchange = call(body=json.dumps(CHAT).encode(), headers={"content-type": content_type})
    await read_request(exchange, services)
    assert exchange.requested_model == "gpt-4o"


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "text/json", "application/x-www-form-urlencoded", "application/json; charset=utf-16",
     "application/json; x=y; CHARSET=latin-1", "multipart/form-data; boundary=XX", "application/jsonx"],
)  # fmt: skip
async def test_content_types_that_are_not(services: Snapshot, content_type: str) -> None:
    refused = await refusal(call(body=json.dumps(CHAT).encode(), headers={"content-type": content_type}), services)
    assert (refused.code, refused.status) == ("unsupported_media_type", 415)


def chat(more: str) -> bytes:
    return b'{"model":"gpt-4o","messages":[{"role":"user","content":"' + SECRET.encode() + b'"}]' + more.encode() + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b'"text"', b"1", b"null", b"\xff\xfe{}", b'\xef\xbb\xbf{"a":1}', chat("")[:-1], chat("") + b"x",
        chat(',"a":NaN'),
        chat(',"a":Infinity'), chat(',"a":-Infinity'), chat(",'a':1"), chat(',"a":1,'), chat(',"a":01'), chat(',"a":"\x01"'),
        chat(',"a":"\n"'), json.dumps(CHAT).encode("utf-16"), b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\\x"}',
        # the same member twice, in whatever spelling and depth
        chat(',"model":"other"'), chat(',"mod\\u0065l":"other"'), chat(',"x":{"a":1,"a":1}'),
        chat(',"x":[{"a":1,"\\u0061":1}]'),
        b"[" * 100_000, b'{"a":' * 100_000,
    ],
)  # fmt: skip
async def test_bodies_that_are_no_json_object_read_in_one_way(services: Snapshot, body: bytes) -> None:
    refused = await refusal(call(body=body, headers=JSON), services)
    assert (refused.code, refused.status) == ("invalid_request", 400)


@pytest.mark.parametrize("lone", ["\\ud800", "\\udc00", "\\ud800\\ud800", "a\\udfff"])
async def test_a_lone_surrogate_is_refused(services: Snapshot, lone: str) -> None:
    """THREATS, row 9: no UTF-8 text is meant by it, and servers disagree about what is."""
    refused = await refusal(call(body=chat(f',"x":"{lone}"'), headers=JSON), services)
    assert refused.code == "invalid_request"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        (',"stream":"true"', "stream"), (',"stream":1', "stream"), (',"stream":[]', "stream"),
        (',"n":0', "n"), (',"n":129', "n"), (',"n":"1"', "n"), (',"n":true', "n"), (',"n":1.0', "n"),
        (',"Model":"other"', "model"), (',"MESSAGES":[]', "messages"), (',"Stream":true', "stream"),
        (',"tools":[],"Tools":[]', "tools"),
    ],
)  # fmt: skip
async def test_parameters_of_a_wrong_type_or_case(services: Snapshot, more: str, param: str) -> None:
    refused = await refusal(call(body=chat(more), headers=JSON), services)
    assert (refused.code, refused.status, refused.param) == ("invalid_request", 400, param)


@pytest.mark.parametrize("name", ["\u017ftream", "me\u017f\u017fages", "tool\u017f", "u\u017fer"])
async def test_letters_that_fold_to_ascii_are_another_case_too(services: Snapshot, name: str) -> None:
    """Go's encoding/json compares by Unicode's simple folding, where ſ (U+017F) is s."""
    refused = await refusal(call(body=json.dumps({**CHAT, name: True}).encode(), headers=JSON), services)
    assert refused.code == "invalid_request"


@pytest.mark.parametrize("model", ["1", "[]", "{}", "true", '""', '"a\\nb"', '"\\u0000"', '"\\u2028"', '"' + "a" * 257 + '"'])
async def test_models_that_are_no_name(services: Snapshot, model: str) -> None:
    body = b'{"messages":[{}],"model":' + model.encode() + b"}"
    refused = await refusal(call(body=body, headers=JSON), services)
    assert (refused.code, refused.param) == ("invalid_request", "model")


@pytest.mark.parametrize("messages", [None, [], {}, "hi", [1], [{"role": "user"}, "hi"]])
async def test_messages_that_are_none(services: Snapshot, messages: Any) -> None:
    refused = await refusal(call(body={"model": "gpt-4o", "messages": messages}), services)
    assert (refused.code, refused.param) == ("invalid_request", "messages")


async def test_messages_are_a_chats_affair(services: Snapshot) -> None:
    exchange = call("/v1/embeddings", {"model": "m", "messages": None, "input": "a"})
    await read_request(exchange, services)
    assert exchange.requested_model == "m"


async def test_a_members_name_in_a_message_in_another_case(services: Snapshot) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "clean", "Content": "evil"}]}
    refused = await refusal(call(body=body), services)
    assert refused.code == "invalid_request"


@pytest.mark.parametrize("body", [None, b""])
async def test_no_body(services: Snapshot, body: bytes | None) -> None:
    assert (await refusal(call(body=body, headers=JSON), services)).code == "invalid_request"
    exchange = call("/v1/files/file-1", body, method="GET")
    await read_request(exchange, services)
    assert exchange.document is None


@pytest.mark.parametrize("headers", [JSON, FORM, {"content-type": "text/plain"}, {}])
async def test_a_body_where_none_is_due(services: Snapshot, headers: dict[str, str]) -> None:
    refused = await refusal(call(body=chat(""), headers=headers, method="GET"), services)
    assert (refused.code, refused.status) == ("invalid_request", 400)
    await read_request(call(body=b"", headers=headers, method="GET"), services)


async def test_numbers_beyond_64_bits_are_read(services: Snapshot) -> None:
    exchange = call(body=chat(f',"seed":{10**40}'), headers=JSON)
    await read_request(exchange, services)
    assert exchange.document is not None
    assert exchange.document["seed"] == 10**40


async def test_an_encoded_body_is_read_decoded(services: Snapshot) -> None:
    exchange = call(body=gzip.compress(chat("")), headers={**JSON, "content-encoding": "gzip"})
    await read_request(exchange, services)
    assert exchange.raw == chat("")


@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (gzip.compress(chat("") + b" " * (2 << 20)), "gzip", "request_too_large"),
        (gzip.compress(chat(""))[:-9], "gzip", "unsupported_media_type"),
        (chat(""), "gzip", "unsupported_media_type"),
        (chat(""), "hex", "unsupported_media_type"),
        (gzip.compress(gzip.compress(chat(""))), "gzip, gzip", "unsupported_media_type"),
    ],
    ids=["grows beyond the limit", "cut off", "not encoded", "unknown", "twice"],
)
async def test_encodings_that_are_refused(services: Snapshot, body: bytes, encoding: str, code: str) -> None:
    assert (await refusal(call(body=body, headers={**JSON, "content-encoding": encoding}), services)).code == code


def form(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value + b"\r\n"
        for name, value in parts
    ) + b"--XX--\r\n"


@pytest.mark.parametrize("spooled", [False, True])
async def test_a_form(services: Snapshot, spooled: bool) -> None:
    raw = form(("file", b"\x00" * 100), ("model", b"whisper-1"), ("stream", b"true"))
    body: MemoryBody | SpooledBody = MemoryBody(raw)
    if spooled:
        body = SpooledBody()
        body.write(raw)
    exchange = call("/v1/audio/transcriptions", body, FORM)
    await read_request(exchange, services)
    assert (exchange.requested_model, exchange.stream, exchange.document) == ("whisper-1", True, None)
    assert exchange.model_span is not None
    start, end = exchange.model_span
    assert raw[start:end] == b"whisper-1"
    assert exchange.delimiter == b"--XX"
    body.close()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (form(("model", b"a"), ("model", b"b")), None),
        (form(("Model", b"a")), None),
        (form(("model", b"")), "model"),
        (form(("model", b"a" * 257)), "model"),
        (form(("model", b"a\tb")), "model"),
        (form(("model", b"\xff")), None),
        (form(("model", b"a"))[:-4], None),
        (b"{}", None),
    ],
)
async def test_forms_that_are_refused(services: Snapshot, body: bytes, param: str | None) -> None:
    refused = await refusal(call("/v1/audio/transcriptions", body, FORM), services)
    assert (refused.code, refused.status, refused.param) == ("invalid_request", 400, param)


async def test_a_form_that_names_no_model(services: Snapshot) -> None:
    exchange = call("/v1/files", form(("purpose", b"batch"), ("file", b"x")), FORM)
    await read_request(exchange, services)
    assert (exchange.requested_model, exchange.model_span, exchange.delimiter) == (None, None, b"--XX")


async def test_a_form_beside_a_model_in_the_path(services: Snapshot) -> None:
    """Azure: the path's counts, and where the form's stands is noted, to be replaced."""
    raw = form(("model", b"other"))
    exchange = call("/openai/deployments/d/audio/transcriptions", raw, FORM)
    await read_request(exchange, services)
    assert exchange.requested_model == "d"
    assert exchange.model_span is not None
    start, end = exchange.model_span
    assert raw[start:end] == b"other"


async def test_json_where_a_form_is_due(services: Snapshot) -> None:
    refused = await refusal(call("/v1/audio/transcriptions", b"x", {"content-type": "text/plain"}), services)
    assert refused.code == "unsupported_media_type"


async def test_bodies_of_other_operations_pass_unread(services: Snapshot) -> None:
    exchange = call("/v1/uploads/u/parts", b"\xff\x00", {"content-type": "application/octet-stream"})
    await read_request(exchange, services)
    assert (exchange.document, exchange.raw, exchange.requested_model) == (None, None, None)


@pytest.mark.parametrize(
    ("query", "model"),
    [("model=gpt-realtime", "gpt-realtime"), ("a=b", None), ("model=%67pt", "gpt"), ("a=b&model=m&c=d", "m")],
)
async def test_a_websockets_model_is_in_its_query(services: Snapshot, query: str, model: str | None) -> None:
    exchange = call(f"/v1/realtime?{query}", method="GET", websocket=True)
    await read_request(exchange, services)
    assert exchange.requested_model == model


@pytest.mark.parametrize("query", ["model=a&model=b", "model=a&%6dodel=b", "model=" + "a" * 300, "model=a%0ab"])
async def test_a_websockets_model_that_is_refused(services: Snapshot, query: str) -> None:
    refused = await refusal(call(f"/v1/realtime?{query}", method="GET", websocket=True), services)
    assert (refused.code, refused.param) == ("invalid_request", "model")


def _wide(value: bytes, times: int) -> bytes:
    return b'{"input": [' + value * times + b'0], "pad": "' + b"x" * (1 << 20) + b'"}'


@pytest.mark.parametrize(
    "value",
    [b"12345,", b'"\\\\",', b'"{[,:\\",[{",', b'"",'],
    ids=["tokens", "backslashes", "signs in texts", "empty texts"],
)
async def test_as_many_values_as_an_embedding_may_have(house: House, value: bytes) -> None:
    services = house.snapshot("")
    exchange = call("/v1/embeddings", _wide(value, 300_000), JSON)
    await read_request(exchange, services)
    assert exchange.document is not None
    assert len(exchange.document["input"]) == 300_001
    assert (await refusal(call("/v1/embeddings", _wide(value, 330_000), JSON), services)).code == "request_too_large"


async def test_a_long_text_may_hold_what_it_likes(house: House) -> None:
    text = '{[1,2]:"\\' * 1_000_000
    exchange = call("/v1/embeddings", {"input": text}, JSON)
    await read_request(exchange, house.snapshot(""))
    assert exchange.document == {"input": text}


@pytest.mark.parametrize("value", [b"{},", b'{"a":"b"},', b'[[["a"]]],'])
async def test_what_is_dear_to_parse_counts_more(house: House, value: bytes) -> None:
    services = house.snapshot("")
    assert (await refusal(call("/v1/embeddings", _wide(value, 165_000), JSON), services)).code == "request_too_large"
