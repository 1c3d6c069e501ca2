"""Small edits of a JSON object's own members that leave every other byte as it came.

A provider must get the client's numbers, spacing and unknown fields untouched (1.0 stays 1.0, integers beyond 64 bits stay
whole), so a member is replaced where it stands. Where that cannot be done safely the answer is None, and the caller
serialises the parsed document anew.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR: Final = re.compile(rb'\s*("[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*|true|false|null)', re.DOTALL)


def put_member(raw: bytes, name: str, value: Any, *, present: bool) -> bytes | None:
    """`raw` with its top-level member `name` set to `value`.

    `raw` is a valid JSON object without duplicate names; `present` says whether it has this member. None if the member is
    there but is not a scalar, or its name is written with escapes.
    """
    written = orjson.dumps(value)
    if not present:
        start = raw.index(b"{") + 1
        comma = b"" if raw[start:].lstrip().startswith(b"}") else b","
        return raw[:start] + orjson.dumps(name) + b":" + written + comma + raw[start:]
    quoted = orjson.dumps(name)
    depth = position = 0
    for found in re.finditer(re.escape(quoted) + rb"\s*:", raw):
        bare = _STRING.sub(b"", raw[position : found.start()])
        inside = bare.find(b'"')            # the quote of a string that the match stands in
        depth += _opened(bare if inside < 0 else bare[:inside])
        position = found.start() if inside < 0 else found.start() + len(quoted)
        if inside >= 0 or depth != 1:
            continue
        scalar = _SCALAR.match(raw, found.end())
        if scalar is None:
            return None
        return raw[: scalar.start(1)] + written + raw[scalar.end(1) :]
    return None


def _opened(bare: bytes) -> int:
    """How many objects and arrays a piece without strings opens and leaves open."""
    return bare.count(b"{") + bare.count(b"[") - bare.count(b"}") - bare.count(b"]")


def dumped(document: Mapping[str, Any]) -> bytes:
    """The document as JSON, integers beyond 64 bits too."""
    try:
        return orjson.dumps(document)
    except TypeError:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
