"""Three slow places of mitmproxy 12.2 on every request's path, replaced by equal ones (tests/transport/test_tuning.py).

    field types     each message's fields are checked against their annotations, for the authors of addons
    headers         a look-up lowers and compares every name by two calls each; some 30 look-ups make a request
    contexts        a fork makes a server object with an id of its own, and throws it away at once

And one unfair place: `drain_writers` (turns.py).

Measured on a base_url call of 1 kB (bench/README.md): together a quarter of the proxy's CPU.
"""

from functools import lru_cache
from typing import Any, Final

from mitmproxy import http
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.server import ConnectionHandler

from mitmgate.transport.turns import drain_and_yield


def _unchecked(message: http.MessageData) -> None:
    """No check."""


@lru_cache(1024)
def _key(name: str | bytes) -> bytes:
    if isinstance(name, str):
        return name.encode("utf-8", "surrogateescape").lower()
    return name.lower()


def _get_all(headers: http.Headers, name: str | bytes) -> list[str]:
    key = _key(name)
    return [value.decode("utf-8", "surrogateescape") for field, value in headers.fields if field.lower() == key]


def _getitem(headers: http.Headers, name: str | bytes) -> str:
    values = _get_all(headers, name)
    if not values:
        raise KeyError(name)
    return values[0] if len(values) == 1 else ", ".join(values)


def _get(headers: http.Headers, name: str | bytes, default: Any = None) -> Any:
    values = _get_all(headers, name)
    if not values:
        return default
    return values[0] if len(values) == 1 else ", ".join(values)


def _contains(headers: http.Headers, name: object) -> bool:
    if not isinstance(name, str | bytes):
        return False
    key = _key(name)
    return any(field.lower() == key for field, _ in headers.fields)


def _fork(context: Context) -> Context:
    forked = Context.__new__(Context)
    forked.client = context.client
    forked.options = context.options
    forked.server = context.server
    forked.layers = context.layers.copy()
    return forked


_REPLACED: Final = (
    (http.MessageData, "__post_init__", _unchecked),
    (http.Headers, "get_all", _get_all),
    (http.Headers, "__getitem__", _getitem),
    (http.Headers, "get", _get),
    (http.Headers, "__contains__", _contains),
    (Context, "fork", _fork),
    (ConnectionHandler, "drain_writers", drain_and_yield),
)


def install() -> None:
    """Put them in place, for the whole process."""
    for owner, name, replacement in _REPLACED:
        setattr(owner, name, replacement)
