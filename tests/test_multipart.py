"""Form fields found in place: real clients' bodies, hostile ones, and other parsers' reading of the same bytes."""

import email.parser
import email.policy
import io
import os
import random
import tempfile
import time
from mmap import mmap
from typing import IO

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.formparser import MultiPartParser

from mitmgate.multipart import (
    MAX_PART_HEADERS,
    MAX_PARTS,
    MAX_VALUE,
    Field,
    MultipartError,
    delimiter_of,
    find_fields,
    text_part,
)

TYPE = "multipart/form-data; boundary=b0undary"
NAMES = frozenset({"model", "stream"})


FORM = b"Content-Disposition: form-data; "


def part(head: bytes, content: bytes = b"whisper-1") -> bytes:
    return b"--b0undary\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def named(name: str, content: bytes = b"whisper-1", more: bytes = b"") -> bytes:
    return part(FORM + b'name="' + name.encode() + b'"' + more, content)


def upload(content: bytes = b"RIFF\0\xff", filename: bytes = b"a.wav") -> bytes:
    head = FORM + b'name="file"; filename="' + filename + b'"\r\nContent-Type: audio/wav'
    return part(head, content)


def model_with(header: bytes, content: bytes = b"whisper-1") -> bytes:
    return part(FORM + b'name="model"\r\n' + header, content) + END


END = b"--b0undary--\r\n"


def read(body: bytes, content_type: str = TYPE) -> dict[str, str]:
    fields = find_fields(body, content_type, NAMES)
    for field in fields.values():
        assert body[field.start : field.end].decode() == field.value
    return {name: field.value for name, field in fields.items()}


MODEL = {"model": "whisper-1"}
ACCEPTED: dict[str, tuple[bytes, dict[str, str]]] = {
    "plain": (named("model") + END, MODEL),
    "no line end at the end": (named("model") + END[:-2], MODEL),
    "model after the file": (upload() + named("model") + END, MODEL),
    "model before the file": (named("model") + upload() + END, MODEL),
    "two fields": (named("model") + named("stream", b"true") + END, {**MODEL, "stream": "true"}),
    "none": (upload() + END, {}),
    "empty form": (END, {}),
    "empty value": (named("model", b"") + END, {"model": ""}),
    "largest value": (named("model", b"x" * MAX_VALUE) + END, {"model": "x" * MAX_VALUE}),
    "line ends in the value": (named("model", b"\r\na\n\r\n") + END, {"model": "\r\na\n\r\n"}),
    "unwanted fields may repeat": (named("include[]") * 2 + named("model") + END, MODEL),
    "UTF-8": (named("model", "模型".encode()) + END, {"model": "模型"}),
    "token name": (part(FORM + b"name=model") + END, MODEL),
    "case of headers": (part(b'content-DISPOSITION:Form-Data;NAME="model"') + END, MODEL),
    "text/plain": (model_with(b"Content-Type: text/plain; charset=UTF-8"), MODEL),
    "content-length": (part(b'Content-Length: 9\r\nContent-Disposition: form-data; name="model"') + END, MODEL),
    "escaped quote": (named('mo\\"del') + named("model", b"y") + END, {"model": "y"}),
    "Windows file name": (upload(filename=rb"C:\music\a.wav") + named("model") + END, MODEL),
    "file name climbs, and is not ours to read": (upload(filename=b"../../x") + named("model") + END, MODEL),
    "file name holds a field": (upload(filename=b'x; name=\\"model\\"') + END, {}),
    "extended file name": (part(FORM + b"name=file; filename*=UTF-8''%e2%82%ac", b"x") + named("model") + END, MODEL),
    "file holds dashes": (upload(b"\r\n--\r\n--b0undar\r\n----") + named("model") + END, MODEL),
    "file holds another form": (
        upload(b"--other\r\n" + FORM + b'name="model"\r\n\r\nx\r\n--other--') + named("model") + END,
        MODEL,
    ),
    "binary encoding of a file": (
        part(FORM + b'name="file"; filename="x"\r\nContent-Transfer-Encoding: binary', b"x") + END,
        {},
    ),
    "charset field": (named("_charset_", b"utf-8") + named("model") + END, MODEL),
}

REFUSED: dict[str, tuple[bytes, str]] = {
    "model twice": (named("model") + upload() + named("model", b"other") + END, "twice"),
    "case": (named("Model") + END, "by case"),
    "spaces": (named(" model") + named("model") + END, "by case, spaces"),
    "brackets": (named("model[]") + END, r"or \[\]"),
    "a file": (named("model", more=b'; filename="x"') + END, "must not be a file"),
    "an extended file": (named("model", more=b"; filename*=UTF-8''x") + END, "must not be a file"),
    "7bit": (model_with(b"Content-Transfer-Encoding: 7bit"), "Transfer-Encoding"),
    "base64": (part(FORM + b'name="x"\r\nContent-Transfer-Encoding: base64') + END, "Transfer-Encoding"),
    "quoted-printable": (model_with(b"Content-Transfer-Encoding: quoted-printable"), "Transfer-Encoding"),
    "UTF-16": (model_with(b"Content-Type: text/plain; charset=utf-16"), "UTF-8"),
    "JSON": (model_with(b"Content-Type: application/json", b'"x"'), "text/plain"),
    "charset field": (named("_charset_", b"utf-7") + named("model") + END, "UTF-8"),
    "too long": (named("model", b"x" * (MAX_VALUE + 1)) + END, "longer than 1024"),
    "not UTF-8": (named("model", b"\xff") + END, "not UTF-8"),
    "nested": (part(FORM + b'name="x"\r\nContent-Type: multipart/mixed; boundary=i') + END, "multipart of its own"),
    "name*": (part(FORM + b"name*=UTF-8''model") + END, "extended parameter"),
    "name* beside name": (named("x", more=b"; name*=UTF-8''model") + END, "extended parameter"),
    "name*0": (part(FORM + b'name*0="mo"; name*1="del"') + END, "extended parameter"),
    "two names": (named("x", more=b'; name="model"') + END, "same parameter twice"),
    "odd escape": (named("mo\\del") + END, "escapes a character"),
    "no name": (part(b"Content-Disposition: form-data") + END, "with a name"),
    "attachment": (part(b'Content-Disposition: attachment; name="model"') + END, "form-data with a name"),
    "no disposition": (part(b"Content-Type: text/plain") + END, "missing or malformed"),
    "no headers": (b"--b0undary\r\n\r\nx\r\n" + END, "blank line"),
    "open quote": (part(FORM + b'name="model') + END, "malformed"),
    "text after the quote": (part(FORM + b'name="mo"del') + END, "malformed"),
    "single quotes and spaces": (part(FORM + b"name='mo del'") + END, "malformed"),
    "doubled disposition": (part(FORM + b'name="x"\r\n' + FORM.lower() + b'name="model"') + END, "same header twice"),
    "folded": (part(b'Content-Disposition: form-data;\r\n name="model"') + END, "folded"),
    "LF in the headers": (part(b'X: y\nContent-Disposition: form-data; name="model"') + END, "malformed"),
    "CR in the name": (named("mo\rdel") + END, "malformed"),
    "NUL in the name": (named("model\0") + END, "malformed"),
    "space before the colon": (part(b'Content-Disposition : form-data; name="model"') + END, "malformed"),
    "headers are Latin-1": (part(FORM + b'name="\xe4"') + END, "not UTF-8"),
    "preamble": (b"hello\r\n" + named("model") + END, "begin with its boundary"),
    "leading CRLF": (b"\r\n" + named("model") + END, "begin with its boundary"),
    "epilogue": (named("model") + END + b"more", "follow the final boundary"),
    "a form after the end": (named("x") + END + named("model") + END, "follow the final boundary"),
    "LF after a boundary": (named("model").replace(b"b0undary\r\n", b"b0undary\n") + END, "followed by CRLF"),
    "padding": (named("model").replace(b"b0undary\r\n", b"b0undary \r\n") + END, "followed by CRLF"),
    "longer boundary": (named("model").replace(b"b0undary", b"b0undaryy") + END, "followed by CRLF"),
    "LF before a boundary": (
        named("x", b"a\n--b0undary\r\n" + FORM + b"name=model\r\n\r\ny") + END,
        "without CRLF",
    ),
    "CR before a boundary": (named("x", b"a\r--b0undary") + END, "without CRLF"),
    "boundary inside a line": (upload(b"abc--b0undary") + END, "inside a part"),
    "boundary in the headers": (
        b"--b0undary\r\nX: --b0undary\r\n" + FORM + b'name="model"\r\n\r\ny\r\n' + END,
        "blank line",
    ),
    "no end": (named("model"), "final boundary of the form is missing"),
    "cut in the file": (named("model") + upload()[:-2], "final boundary of the form is missing"),
    "cut in the last boundary": (named("model") + END[:-3], "followed by CRLF, or by --"),
    "cut in the headers": (named("model")[:20], "missing"),
    "nothing": (b"", "begin with its boundary"),
    "only a boundary": (b"--b0undary", "followed by CRLF"),
    "long headers": (named("model", more=b"; x=" + b"y" * MAX_PART_HEADERS) + END, "at most 16384 bytes"),
    "long headers in sum": (named("x", more=b"; x=" + b"y" * 16000) * 17 + END, "together exceed"),
    "too many parts": (named("x") * (MAX_PARTS + 1) + END, "more than 1000 parts"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: str) -> None:
    body, expected = ACCEPTED[case]
    assert read(body) == expected
    assert others_read(body) == expected


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    body, message = REFUSED[case]
    with pytest.raises(MultipartError, match=message):
        read(body)


NAMELESS = [case for case, (_, expected) in ACCEPTED.items() if "model" not in expected]


@pytest.mark.parametrize("model", ["whisper-1", "org/模型:1 x", "--b0undar", "-", 'a"b\\c;d=e'])
@pytest.mark.parametrize("case", NAMELESS)
def test_a_part_at_the_front_is_the_forms_own_to_every_parser(case: str, model: str) -> None:
    body = text_part(delimiter_of(TYPE), "model", model) + ACCEPTED[case][0]
    assert read(body) == {**ACCEPTED[case][1], "model": model}
    assert others_read(body) == {**ACCEPTED[case][1], "model": model}


def test_as_many_parts_as_allowed() -> None:
    assert read(named("x") * (MAX_PARTS - 1) + named("model") + END) == MODEL


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/form-data; boundary="b0undary"', b"b0undary"),
        ("Multipart/Form-Data;BOUNDARY=b0undary", b"b0undary"),
        ("multipart/form-data; charset=utf-8; boundary=b0undary", b"b0undary"),
        ('multipart/form-data; boundary="a b:c=d?"', b"a b:c=d?"),
        ('multipart/form-data; boundary="===============123=="', b"===============123=="),
        ("multipart/form-data; boundary=" + "x" * 70, b"x" * 70),
        ("multipart/form-data; boundary=-", b"-"),
    ],
)
def test_boundaries(content_type: str, boundary: bytes) -> None:
    assert read((named("model") + END).replace(b"b0undary", boundary), content_type) == MODEL
    assert delimiter_of(content_type) == b"--" + boundary
    assert read(text_part(delimiter_of(content_type), "model", "whisper-1") + b"--" + boundary + b"--", content_type) == MODEL


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "x" * 71,
        'multipart/form-data; boundary="b0undary "',
        'multipart/form-data; boundary="b0\\undary"',
        'multipart/form-data; boundary="b0@undary"',
        "multipart/form-data; boundary=b0undary; boundary=other",
        "multipart/form-data; boundary=b0undary; Boundary=b0undary",
        "multipart/form-data; boundary*=UTF-8''b0undary",
        'multipart/form-data; boundary*0="b0"; boundary*1="undary"',
        "multipart/form-data; boundary=b0undary, multipart/form-data; boundary=x",
        "multipart/form-data boundary=b0undary",
        "multipart/form-data; boundary=b0undary;",
        "multipart/form-data; boundary=b0undary\r\nX: y",
        "multipart/mixed; boundary=b0undary",
        "application/json; boundary=b0undary",
    ],
)
def test_content_types_refused(content_type: str) -> None:
    with pytest.raises(MultipartError):
        read(named("model") + END, content_type)


def in_memory(*_: object, **__: object) -> IO[bytes]:
    return io.BytesIO()


def werkzeug_reads(body: bytes) -> dict[str, str]:
    parser = MultiPartParser(stream_factory=in_memory)
    form, _ = parser.parse(io.BytesIO(body), b"b0undary", len(body))
    return {name: value for name, value in form.items() if name in NAMES}


def others_read(body: bytes) -> dict[str, str]:
    """What Werkzeug and the standard library make of a form: the last of each name, as most servers take it."""
    werkzeug = werkzeug_reads(body)
    head = f"Content-Type: {TYPE}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    stdlib = {}
    for item in message.iter_parts():
        name = item.get_param("name", header="content-disposition")
        if name in NAMES and item.get_filename() is None:
            stdlib[str(name)] = bytes(item.get_payload(decode=True)).decode()
    assert stdlib == werkzeug
    return werkzeug


PIECES = [b"\r", b"\n", b"\r\n", b'"', b"\\", b";", b"--", b" ", b"\0", b"--b0undary", b"=", b"model", b"*", b":"]


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 3))
def test_what_is_accepted_after_mutation_is_what_werkzeug_reads(seed: int, count: int) -> None:
    dice = random.Random(seed)
    body = bytearray(dice.choice(list(ACCEPTED.values()))[0])
    for _ in range(count):
        at = dice.randrange(len(body) + 1)
        piece = dice.choice(PIECES)
        body[at : at + dice.randrange(3)] = piece
    try:
        ours = read(bytes(body))
    except MultipartError:
        return
    assert werkzeug_reads(bytes(body)) == ours


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=30)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(TEXT, TEXT, max_size=4), st.text("ab\"\\;= é.", min_size=1, max_size=12))
def test_what_httpx_sends_is_read(fields: dict[str, str], filename: str) -> None:
    data = {**{f"x-{name}": value for name, value in fields.items()}, "model": "gpt-4o-transcribe"}
    request = httpx.Request("POST", "http://127.0.0.1/", data=data, files={"file": (filename, os.urandom(100))})
    found = find_fields(request.read(), request.headers["content-type"], NAMES)
    assert {name: field.value for name, field in found.items()} == {"model": "gpt-4o-transcribe"}


def test_25_megabytes_in_some_milliseconds_and_through_a_mapping() -> None:
    body = upload(random.Random(3).randbytes(25 << 20)) + named("model") + END
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.flush()
        with mmap(file.fileno(), 0) as mapped:
            began = time.process_time()
            found = find_fields(mapped, TYPE, NAMES)
            took = time.process_time() - began
    at = body.rindex(b"whisper-1")
    assert found == {"model": Field("whisper-1", at, at + 9)}
    assert took < 0.25, "CPU seconds; some 5 ms on an idle machine, a copy or a loop over the bytes takes far longer"


@pytest.mark.parametrize("filler", [b"-", b"\r\n--b0undar", b"\r\n", b"--b0undar", b"\r\n--"])
def test_hostile_fillers_stay_linear(filler: bytes) -> None:
    body = upload(filler * ((8 << 20) // len(filler))) + named("model") + END
    began = time.process_time()
    assert read(body) == MODEL
    assert time.process_time() - began < 1
