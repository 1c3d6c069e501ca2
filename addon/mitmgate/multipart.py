"""Fields of a multipart/form-data body found in place, so that a 500 MB upload can be routed without a copy of it.

Theory of operation. The server behind parses the same bytes with its own parser, and routing by another `model` than
the one it will read is a hole. So this reader accepts only what all parsers read alike (RFC 2046, section 5.1 and
RFC 7578, strictly) and refuses the rest: line ends other than CRLF around a boundary, text before the first or after
the last one, folded or doubled headers, a name given twice, encoded or nested parts. The body is walked from boundary
to boundary with `find`; only headers and wanted values are copied out. A form that is accepted begins with its boundary,
so that a field which it lacks is put before its first byte.
"""

import mmap
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

MAX_PARTS: Final = 1000
MAX_PART_HEADERS: Final = 16 << 10      # bytes, of one part
MAX_HEADERS: Final = 256 << 10          # bytes, of all parts together
MAX_VALUE: Final = 1 << 10              # bytes, of a wanted field

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*"'
_PARAMETER: Final = re.compile(rf"[ \t]*;[ \t]*({_TOKEN})=({_TOKEN}|{_QUOTED})")
_VALUE: Final = re.compile(rf"[ \t]*({_TOKEN}(?:/{_TOKEN})?)")
_HEADER: Final = re.compile(rf"({_TOKEN}):([^\x00-\x08\x0a-\x1f\x7f]*)")
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")   # RFC 2046, section 5.1.1
_ESCAPE: Final = re.compile(r"\\(.)")
_PLAIN_CHARSETS: Final = ("utf-8", "utf8", "us-ascii", "ascii")


class MultipartError(Exception):
    """The form cannot be read in one way only. The message is written for the client and quotes nothing of the body."""


@dataclass(frozen=True, slots=True)
class Field:
    """The value of one form field, and the byte range of the body (end exclusive) in which it stands."""

    value: str
    start: int
    end: int


def find_fields(body: bytes | mmap.mmap, content_type: str, names: Container[str]) -> dict[str, Field]:
    """The fields of `names` that `body` holds; those that it lacks are absent. Raises MultipartError.

    `content_type` is the request's header. `names` are in lower case: a name that differs from one of them only
    by case, by spaces around it or by a final [] is refused.
    """
    delimiter = delimiter_of(content_type)
    if body[: len(delimiter)] != delimiter:
        raise MultipartError("the form must begin with its boundary")
    found: dict[str, Field] = {}
    headers_size = 0
    position = len(delimiter)
    for _ in range(MAX_PARTS + 1):  # the last round is for the end
        after = body[position : position + 4]
        if after in (b"--", b"--\r\n"):
            if position + len(after) != len(body):
                raise MultipartError("bytes follow the final boundary of the form")
            return found
        if after[:2] != b"\r\n":
            raise MultipartError("a boundary of the form must be followed by CRLF, or by -- and the end of the body")
        headers_start = position + 2
        headers_end = body.find(b"\r\n\r\n", headers_start, headers_start + MAX_PART_HEADERS + 4)
        start = headers_end + 4
        # Anywhere else than after a CRLF, the boundary would be read as one by some parsers and as content by others.
        next_delimiter = body.find(delimiter, headers_start)
        if next_delimiter < 0:
            raise MultipartError("the final boundary of the form is missing")
        if headers_end < 0 or next_delimiter < start + 2:
            raise MultipartError(f"a part needs a blank line after at most {MAX_PART_HEADERS} bytes of headers")
        end = next_delimiter - 2
        if body[end:next_delimiter] != b"\r\n":
            raise MultipartError("the boundary occurs inside a part of the form, or without CRLF before it")
        headers_size += start - headers_start
        if headers_size > MAX_HEADERS:
            raise MultipartError(f"the headers of all parts of the form together exceed {MAX_HEADERS} bytes")
        name, headers = _part(body[headers_start:headers_end])
        if name == "_charset_":
            _check_charset(_value(body, start, end))
        plain_name = name.strip().lower().removesuffix("[]")  # PHP and its followers read `model[]` as `model`
        if plain_name in names:
            if name != plain_name:
                raise MultipartError(f'a field of the form differs from "{plain_name}" by case, spaces or [] only')
            if name in found:
                raise MultipartError(f'the form has the field "{name}" twice')
            _check_plain(name, headers)
            found[name] = Field(_value(body, start, end), start, end)
        position = next_delimiter + len(delimiter)
    raise MultipartError(f"the form has more than {MAX_PARTS} parts")


def delimiter_of(content_type: str) -> bytes:
    """What each part of a form begins with: two dashes and the boundary. Raises MultipartError."""
    kind, parameters = _parse(content_type, "the Content-Type")
    if kind != "multipart/form-data":
        raise MultipartError("the content type must be multipart/form-data")
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise MultipartError("the Content-Type needs a boundary of 1 to 70 characters that RFC 2046 allows")
    return b"--" + boundary.encode()


def text_part(delimiter: bytes, name: str, value: str) -> bytes:
    """One field as a part of its own, to be put before the first byte of a form that `find_fields` accepts.

    `name` needs no quoting; `value` has no line's end, and the delimiter does not occur in it.
    """
    return b'%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (delimiter, name.encode(), value.encode())


def _part(block: bytes) -> tuple[str, dict[str, str]]:
    """The name and the headers (names in lower case) of one part."""
    headers: dict[str, str] = {}
    try:
        lines = block.decode().split("\r\n")
    except UnicodeDecodeError:
        raise MultipartError("the headers of a part of the form are not UTF-8") from None
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise MultipartError("a part of the form has a header that is malformed or folded")
        key = header[1].lower()
        if key in headers:
            raise MultipartError("a part of the form has the same header twice")
        headers[key] = header[2]
    kind, parameters = _parse(headers.get("content-disposition", ""), "the Content-Disposition of a part")
    if kind != "form-data" or "name" not in parameters:
        raise MultipartError("every part of the form needs a Content-Disposition: form-data with a name")
    if headers.get("content-transfer-encoding", "binary").strip(" \t").lower() not in ("7bit", "8bit", "binary"):
        raise MultipartError("a part of the form has a Content-Transfer-Encoding, which RFC 7578 deprecates")
    if headers.get("content-type", "").strip(" \t").lower().startswith("multipart/"):
        raise MultipartError("a part of the form is a multipart of its own")
    return parameters["name"], headers


def _check_plain(name: str, headers: dict[str, str]) -> None:
    """A field that routing reads is text as it stands: no file, no encoding, no other charset."""
    _, parameters = _parse(headers["content-disposition"], "the Content-Disposition of a part")
    if "filename" in parameters or "filename*" in parameters:
        raise MultipartError(f'the field "{name}" must not be a file')
    if "content-transfer-encoding" in headers:
        raise MultipartError(f'the field "{name}" must not have a Content-Transfer-Encoding')
    if "content-type" in headers:
        kind, parameters = _parse(headers["content-type"], "the Content-Type of a part")
        if kind != "text/plain":
            raise MultipartError(f'the field "{name}" must be text/plain')
        _check_charset(parameters.get("charset", "utf-8"))


def _check_charset(charset: str) -> None:
    if charset.lower() not in _PLAIN_CHARSETS:
        raise MultipartError("the fields of the form must be in UTF-8")


def _value(body: bytes | mmap.mmap, start: int, end: int) -> str:
    if end - start > MAX_VALUE:
        raise MultipartError(f"a field of the form that selects the model is longer than {MAX_VALUE} bytes")
    try:
        return body[start:end].decode()
    except UnicodeDecodeError:
        raise MultipartError("a field of the form is not UTF-8") from None


def _parse(header: str, what: str) -> tuple[str, dict[str, str]]:
    """A header's value and its parameters: both names in lower case, quotes and escapes undone."""
    value = _VALUE.match(header)
    if value is None:
        raise MultipartError(f"{what} is missing or malformed")
    parameters: dict[str, str] = {}
    position = value.end()
    while parameter := _PARAMETER.match(header, position):
        position = parameter.end()
        key, text = parameter[1].lower(), parameter[2]
        if key in parameters:
            raise MultipartError(f"{what} has the same parameter twice")
        # RFC 2231 spellings (`name*=`, `name*0=`) are read by some parsers only. `filename*` is common, and harmless.
        if "*" in key and key != "filename*":
            raise MultipartError(f"{what} has an extended parameter")
        if text.startswith('"'):
            text = _unquoted(text, what, strict=key != "filename")
        parameters[key] = text
    if header[position:].strip(" \t"):
        raise MultipartError(f"{what} is malformed")
    return value[1].lower(), parameters


def _unquoted(text: str, what: str, *, strict: bool) -> str:
    # Browsers and RFC 822 disagree about a backslash before other characters than these two (file names on Windows).
    if strict and any(escaped not in '"\\' for escaped in _ESCAPE.findall(text)):
        raise MultipartError(f"{what} escapes a character that needs no escape")
    return _ESCAPE.sub(r"\1", text[1:-1])
