"""THREATS row 9: bodies that are not JSON in UTF-8, or not what they must be. Refused, counted, recorded; never passed.

Each row is something that one JSON parser or another, or a Python server behind us, would have taken.
"""

import json
from typing import Any, NamedTuple

import pytest
from attacked import ASK, CHAT, JSON, call, careless, counted, provider, recorded, refused, rules, tunnelled

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Fields, Http2

INVALID = (400, "invalid_request")
NOT_JSON = (415, "unsupported_media_type")
TEXT = json.dumps(CHAT)
FORM = "application/x-www-form-urlencoded"


class Row(NamedTuple):
    name: str
    body: bytes
    expected: tuple[int, str] = INVALID
    headers: Fields = (JSON,)


def typed(content_type: str) -> Fields:
    return (("content-type", content_type),)


def chat(**fields: Any) -> bytes:
    return json.dumps({**CHAT, **fields}).encode()


ENCODINGS = (
    Row("utf-16-with-mark", TEXT.encode("utf-16")),
    Row("utf-16-le", TEXT.encode("utf-16-le")),
    Row("utf-16-be", TEXT.encode("utf-16-be")),
    Row("utf-32-with-mark", TEXT.encode("utf-32")),
    Row("utf-32-le", TEXT.encode("utf-32-le")),
    Row("utf-8-with-mark", b"\xef\xbb\xbf" + ASK),
    Row("latin-1", TEXT.replace("hello", "h\xe9llo").encode("latin-1")),
    Row("raw-surrogate", ASK.replace(b"hello", b"\xed\xa0\x80")),
    Row("overlong", ASK.replace(b"hello", b"\xc0\xaf")),
    Row("lone-surrogate", ASK.replace(b"hello", rb"\ud800")),
    Row("lone-trailing-surrogate", ASK.replace(b"hello", rb"\udc00 x")),
    Row("surrogates-in-the-wrong-order", ASK.replace(b"hello", rb"\udc00\ud800")),
    Row("surrogate-in-a-name", ASK[:-1] + rb', "\ud800": 1}'),
)
SYNTAX = (
    Row("nan", ASK[:-1] + b', "temperature": NaN}'),
    Row("infinity", ASK[:-1] + b', "temperature": Infinity}'),
    Row("minus-infinity", ASK[:-1] + b', "temperature": -Infinity}'),
    Row("single-quotes", repr(CHAT).encode()),
    Row("comment", ASK[:-1] + b"/* x */}"),
    Row("trailing-comma", ASK[:-1] + b",}"),
    Row("cut-off", ASK[:-1]),
    Row("two-documents", ASK + ASK),
    Row("followed-by-text", ASK + b" x"),
    Row("followed-by-nul", ASK + b"\0"),
    Row("nul-first", b"\0" + ASK),
    Row("raw-line-feed-in-a-string", ASK.replace(b"hello", b"a\nb")),
    Row("raw-nul-in-a-string", ASK.replace(b"hello", b"a\0b")),
    Row("bad-escape", ASK.replace(b"hello", rb"\x41")),
    Row("leading-zero", ASK[:-1] + b', "n": 01}'),
    Row("plus-sign", ASK[:-1] + b', "n": +1}'),
    Row("hexadecimal", ASK[:-1] + b', "n": 0x1}'),
    Row("json-lines", ASK + b"\n" + ASK + b"\n"),
    Row("form-in-json-type", b"model=m&messages=x"),
    Row("not-text", bytes(range(256))),
    Row("only-spaces", b"   "),
    Row("nested-100000-deep", ASK[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    Row("nested-objects-100000-deep", ASK[:-1] + b', "x": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"),
)
MEDIA = (
    Row("text-plain", ASK, NOT_JSON, typed("text/plain")),
    Row("text-json", ASK, NOT_JSON, typed("text/json")),
    Row("form", b"model=m&messages=x", NOT_JSON, typed(FORM)),
    Row("json-as-form", ASK, NOT_JSON, typed(FORM)),
    Row("multipart", ASK, NOT_JSON, typed("multipart/form-data; boundary=x")),
    Row("octet-stream", ASK, NOT_JSON, typed("application/octet-stream")),
    Row("no-content-type", ASK, NOT_JSON, ()),
    Row("empty-content-type", ASK, NOT_JSON, typed("")),
    Row("json-lines-type", ASK, NOT_JSON, typed("application/jsonl")),
    Row("two-content-types", ASK, NOT_JSON, (JSON, ("content-type", "text/plain"))),
    Row("two-content-types-in-one", ASK, NOT_JSON, typed("application/json, text/plain")),
    Row("charset-utf-16", TEXT.encode("utf-16"), NOT_JSON, typed("application/json; charset=utf-16")),
    Row("charset-utf-16-of-utf-8", ASK, NOT_JSON, typed("application/json; charset=utf-16")),
    Row("charset-latin-1", ASK, NOT_JSON, typed('application/json; charset="ISO-8859-1"')),
    Row("charset-utf-7", ASK, NOT_JSON, typed("application/json;charset=UTF-7")),
    Row("two-charsets", ASK, NOT_JSON, typed("application/json; charset=utf-8; charset=utf-7")),
)
SHAPES = (
    Row("empty", b""),
    Row("array", b"[" + ASK + b"]"),
    Row("string", json.dumps(TEXT).encode()),
    Row("number", b"1"),
    Row("null", b"null"),
    Row("true", b"true"),
    Row("empty-object", b"{}"),
    Row("model-number", chat(model=1)),
    Row("model-list", chat(model=["m"])),
    Row("model-object", chat(model={"a": 1})),
    Row("model-bool", chat(model=True)),
    Row("model-empty", chat(model="")),
    Row("model-257-characters", chat(model="m" * 257)),
    Row("model-1-megabyte", chat(model="m" * (1 << 20))),
    *(
        Row(f"model-with-u{ord(character):04x}", chat(model=f"m{character}x"))
        for character in "\0\t\n\r\x1b\x7f\x85\u200b\u202e\u2028\ufeff"
    ),
    Row("stream-string", chat(stream="true")),
    Row("stream-number", chat(stream=1)),
    Row("stream-list", chat(stream=[])),
    Row("n-zero", chat(n=0)),
    Row("n-negative", chat(n=-1)),
    Row("n-129", chat(n=129)),
    Row("n-huge", chat(n=10**30)),
    Row("n-fraction", chat(n=1.5)),
    Row("n-string", chat(n="2")),
    Row("n-bool", chat(n=True)),
    Row("messages-missing", b'{"model": "m"}'),
    Row("messages-null", chat(messages=None)),
    Row("messages-string", chat(messages="hello")),
    Row("messages-object", chat(messages={"role": "user", "content": "x"})),
    Row("messages-empty", chat(messages=[])),
    Row("messages-of-strings", chat(messages=["hello"])),
    Row("messages-of-lists", chat(messages=[[]])),
    Row("messages-with-a-null", chat(messages=[*CHAT["messages"], None])),
)


@pytest.fixture(scope="module")
def served(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def gateway(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    return shared_gateway(rules(provider(served), match={}, intercept=["llm.test"]))


@pytest.fixture(autouse=True)
def forgotten(served: Upstream) -> None:
    served.script(does.ok())


@pytest.mark.parametrize("row", [*ENCODINGS, *SYNTAX, *MEDIA, *SHAPES], ids=lambda row: row.name)
async def test_is_refused_counted_and_recorded(gateway: Gateway, served: Upstream, row: Row) -> None:
    status, code = row.expected
    labels = {"operation": "chat", "status": str(status), "code": code}
    before = counted(gateway, "mitmgate_exchanges_total", **labels)
    answer = await call(gateway, headers=row.headers, body=row.body)
    error = refused(answer, status, code)
    assert error["doc_url"].endswith(f"/docs/errors/{code}")
    assert answer.header("x-gateway-attempts") == "0"
    record = recorded(gateway, answer)
    assert (record["status"], record["code"], record["attempts"]) == (status, code, [])
    assert counted(gateway, "mitmgate_exchanges_total", **labels) == before + 1
    assert served.untouched


@pytest.mark.parametrize("row", [*ENCODINGS[:6], *SYNTAX[:2], *MEDIA, *SHAPES[:4]], ids=lambda row: row.name)
async def test_is_refused_inside_a_tunnel_too(gateway: Gateway, served: Upstream, row: Row) -> None:
    refused(await call(gateway, through="llm.test:443", headers=row.headers, body=row.body), *row.expected)
    assert served.untouched


async def test_and_over_http2_on_one_connection(gateway: Gateway, served: Upstream) -> None:
    """A refusal ends its stream, not the connection."""
    async with tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless("h2")) as client:
        http2 = Http2((client.reader, client.writer)).start()
        for row in (*ENCODINGS, *SYNTAX[:3], *MEDIA[:6]):
            answer = await http2.reply(
                await http2.send("POST", "/v1/chat/completions", row.headers, row.body, authority="llm.test")
            )
            refused(answer, *row.expected)
        assert served.untouched
        good = await http2.reply(await http2.send("POST", "/v1/chat/completions", (JSON,), ASK, authority="llm.test"))
    assert good.status == 200


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
async def test_json_in_utf_8_is_taken(gateway: Gateway, served: Upstream, content_type: str) -> None:
    body = json.dumps({**CHAT, "user": "\U0001f600 é"}, ensure_ascii=False).encode()
    assert (await call(gateway, headers=typed(content_type), body=body)).status == 200
    assert [request.body for request in served.requests] == [body]


async def test_a_hundred_levels_are_taken_as_they_are(gateway: Gateway, served: Upstream) -> None:
    """JSON Schemas of tools are some twenty deep; what is read is what is sent."""
    body = ASK[:-1] + b', "x": ' + b'{"a":[' * 50 + b"1" + b"]}" * 50 + b"}"
    assert (await call(gateway, body=body)).status == 200
    assert [request.body for request in served.requests] == [body]


@pytest.mark.parametrize(
    "target", ["/v1/embeddings", "/v1/responses", "/v1/completions", "/v1/moderations", "/v1/audio/speech"]
)
@pytest.mark.parametrize("row", [*ENCODINGS[:2], *MEDIA[:3]], ids=lambda row: row.name)
async def test_the_other_json_operations_are_read_so_too(gateway: Gateway, served: Upstream, target: str, row: Row) -> None:
    refused(await call(gateway, target, headers=row.headers, body=row.body), *row.expected)
    assert served.untouched
