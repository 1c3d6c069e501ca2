"""The model's name in replies: the client's own word for it, where the gateway asked for another (`answer_model: asked`)."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mitmgate.jsonedit import put_member
from mitmgate.sse import event_data

type Path = tuple[str, ...]

_PATHS: Final[Mapping[str, tuple[Path, ...]]] = {
    "anthropic": (("model",), ("message", "model")),
    "gemini": (("modelVersion",),),
}
_OPENAI: Final[tuple[Path, ...]] = (("model",), ("response", "model"))


class Name:
    """What the client is told in place of a served model's name."""

    __slots__ = ("_paths", "told")

    def __init__(self, dialect: str, told: str) -> None:
        """`dialect`: the client's, in which the reply is."""
        self._paths = _PATHS.get(dialect, _OPENAI)
        self.told = told

    def in_body(self, body: bytes) -> bytes:
        """The body with the client's word in it; every other byte as it came, if the name stands at its top."""
        if b'"model' not in body:
            return body
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body
        for path in self._paths:
            if isinstance(_at(document, path), str):
                edited = put_member(body, path[0], self.told, present=True) if len(path) == 1 else None
                return edited if edited is not None else orjson.dumps(_with(document, path, self.told))
        return body

    def in_event(self, event: bytes) -> bytes:
        """The same of a server-sent event; its other lines stay before the data."""
        data = event_data(event)
        if data is None or b'"model' not in data or (edited := self.in_body(data)) is data:
            return event
        if event.startswith(b"data:") and event.endswith(b"\n\n") and event.count(b"\n") == 2:
            return b"data: " + edited + b"\n\n"
        others = [line for line in event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if line]
        head = b"".join(line + b"\n" for line in others if not line.startswith(b"data:"))
        # One line: what was data of several is JSON, in which a line's end is a space.
        return head + b"data: " + edited.replace(b"\n", b" ") + b"\n\n"


def _at(document: Any, path: Path) -> object:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _with(document: dict[str, Any], path: Path, value: str) -> dict[str, Any]:
    if len(path) == 1:
        return {**document, path[0]: value}
    return {**document, path[0]: _with(document[path[0]], path[1:], value)}
