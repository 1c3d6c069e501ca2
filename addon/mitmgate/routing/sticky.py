"""What keeps a conversation where it is: one value of the request, and a hash of it for each target.

Rendezvous hashing (Thaler and Ravishankar, 1998), weighted by the strategy: stateless, alike on all replicas, and when a
weight rises from 10 to 20 per cent only those move that the new 10 per cent take. The route's name is the salt, so that
two routes do not draw the same lot for the same user.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import orjson

from mitmgate.exchange import Target

_SPAN: Final = float(1 << 64)


def sticky_value(sources: Sequence[str], headers: Mapping[str, str], document: Mapping[str, Any] | None) -> str | None:
    """The first of `sources` that the request has, with its source; None: it has none, so it stays nowhere."""
    for source in sources:
        kind, _, name = source.partition(":")
        if kind == "header":
            value: object = headers.get(name.lower())
        elif kind == "body":
            value = (document or {}).get(name)
        else:
            value = _beginning(document or {})
        if isinstance(value, str) and value:
            return f"{source}={value}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"{source}={value!r}"
    return None


def _beginning(document: Mapping[str, Any]) -> str | None:
    """What stays the same while a conversation grows: its system text and its first user message, as a hash."""
    messages = document.get("messages", document.get("input"))
    if isinstance(messages, str):
        parts: list[Any] = [document.get("instructions"), messages]
    elif isinstance(messages, list):
        turns = [each for each in messages if isinstance(each, dict)]
        system = [each.get("content") for each in turns if each.get("role") in ("system", "developer")]
        first = next((each.get("content") for each in turns if each.get("role") == "user"), None)
        parts = [document.get("system"), document.get("instructions"), system, first]
    else:
        return None
    try:
        written = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    except TypeError:                       # an integer beyond 64 bits
        written = repr(parts).encode("utf-8", "replace")
    return blake2b(written, digest_size=16).hexdigest()


def lot(route: str, value: str, target: Target) -> float:
    """This target's draw in [0, 1) for this value: the same wherever and whenever it is asked."""
    text = "\0".join((route, target.key, value)).encode("utf-8", "replace")
    return int.from_bytes(blake2b(text, digest_size=8).digest()) / _SPAN
