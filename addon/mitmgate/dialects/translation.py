"""Readers for what does not pass as it came: another dialect's events, read for their meaning or written anew for the client.

    ForeignReader       the client speaks the provider's dialect, which is not OpenAI's: bytes pass, their meaning is read
    TranslatingReader   the client speaks another: each event becomes the client's, through canonical chunks
"""

from typing import Any, Final

import orjson

from mitmgate.dialects.canonical import count
from mitmgate.dialects.codec import Ask, Asked, ClientCodec, Garbled, ProviderCodec
from mitmgate.dialects.naming import Name
from mitmgate.dialects.reading import AsItCame, Kind, Splitter, is_crowded
from mitmgate.errors import Fault, FaultKind
from mitmgate.jsonedit import dumped
from mitmgate.sse import EventSplitter

_LONGEST_NAME: Final = 256
_LARGEST: Final = 256 << 20                 # bytes of a stream that is translated: codecs keep some of it until its end
_UNWRITABLE: Final = (Garbled, TypeError, RecursionError)   # orjson's error, for what is nested too deeply, is a TypeError
_NONSENSE: Final = Fault(FaultKind.GARBAGE, "the provider's reply is not what its API describes", status=200)


class ForeignReader(AsItCame):
    """Reads a reply of the client's own dialect, for its model, its usage and its end."""

    __slots__ = (
        "_ask", "_client", "_name", "_provider", "_stream", "_written", "served_model", "tokens_input", "tokens_output",
    )  # fmt: skip

    def __init__(
        self, provider: ProviderCodec, client: ClientCodec, ask: Ask, asked: Asked, name: Name | None = None
    ) -> None:
        """`name`: of the model, where the client is to be told its own word."""
        self._provider, self._ask, self._name = provider, ask, name
        self._stream = provider.stream(ask)
        self._client = client
        self._written = client.stream(asked)
        self.served_model: str | None = None
        self.tokens_input: int | None = None
        self.tokens_output: int | None = None

    @property
    def stream_media(self) -> str:  # type: ignore[override]  # read only here
        """As the provider's codec says, if it is not server-sent events."""
        return getattr(self._provider, "stream_media", "text/event-stream")

    def splitter(self) -> Splitter:
        """As the provider's codec says, if it is not of server-sent events."""
        made: Any = getattr(self._provider, "splitter", EventSplitter)()
        splitter: Splitter = made
        return splitter

    def event(self, event: bytes) -> Kind:
        """By the provider's codec."""
        if is_crowded(event):
            return Kind.GARBAGE
        step = self._stream.read(event)
        for chunk in step.chunks:
            self._note(chunk)
        return step.kind

    def written(self, event: bytes) -> bytes:
        """The event, in the client's word for the model."""
        return event if self._name is None else self._name.in_event(event)

    def answer(self, body: bytes) -> bytes:
        """The body, in the client's word for the model."""
        return body if self._name is None else self._name.in_body(body)

    @property
    def complete(self) -> bool:
        """By the provider's codec."""
        return self._stream.complete

    def broken(self, code: str, message: str) -> bytes:
        """By the client's codec."""
        return self._written.broken(code, message)

    def fault_of(self, event: bytes) -> Fault:
        """By the provider's codec."""
        return self._stream.fault_of(event)

    def body(self, body: bytes) -> Fault | None:
        """By the provider's codec."""
        reply = self._reply(body)
        return reply if isinstance(reply, Fault) else None

    def failure(self, status: int, body: bytes) -> str | None:
        """By the provider's codec."""
        return self._provider.failed(status, body).code

    def _reply(self, body: bytes) -> dict[str, Any] | Fault:
        """The canonical reply."""
        try:
            document = orjson.loads(body)
            if not isinstance(document, dict):
                raise Garbled
            reply = self._provider.reply(document, self._ask)
        except (orjson.JSONDecodeError, Garbled):
            return _NONSENSE
        self._note(reply)
        return reply

    def _note(self, document: dict[str, Any]) -> None:
        model, usage = document.get("model"), document.get("usage")
        if isinstance(model, str):
            self.served_model = model[:_LONGEST_NAME]
        if isinstance(usage, dict):         # canonical, but a provider that speaks chat completions may say anything
            self.tokens_input, self.tokens_output = _counted(usage, "prompt_tokens"), _counted(usage, "completion_tokens")


def _counted(usage: dict[str, Any], name: str) -> int | None:
    """A count of tokens; None where there is none, or what is there is no number."""
    return None if usage.get(name) is None else count(usage[name])


class TranslatingReader(ForeignReader):
    """Reads a reply of the provider's dialect and writes the client's."""

    __slots__ = ("_answer", "_asked", "_out", "_size")

    translates = True

    def __init__(
        self, provider: ProviderCodec, client: ClientCodec, ask: Ask, asked: Asked, name: Name | None = None
    ) -> None:
        super().__init__(provider, client, ask, asked, name)
        self._asked = asked
        self._out = b""
        self._answer = b""
        self._size = 0                      # bytes of all events

    @property
    def media(self) -> str:  # type: ignore[override]  # read only here
        """By the client's codec: of the stream where that depends on what was asked."""
        media: str = getattr(self._written, "media", self._client.media)
        return media

    @property
    def stream_media(self) -> str:  # type: ignore[override]  # read only here
        """None at all for a client that asked for no stream."""
        return super().stream_media if self._ask.stream else "none/none"

    def event(self, event: bytes) -> Kind:
        """By the provider's codec; writes what the client gets for it."""
        self._size += len(event)
        if self._size > _LARGEST or is_crowded(event):
            return Kind.GARBAGE
        step = self._stream.read(event)
        out = []
        try:
            for chunk in step.chunks:
                self._note(chunk)
                out.append(self._written.write(self._named(chunk)))
        except _UNWRITABLE:
            return Kind.GARBAGE
        self._out = b"".join(out)
        return step.kind

    def written(self, event: bytes) -> bytes:
        """What the codecs made of it."""
        out, self._out = self._out, b""
        return out

    def ending(self) -> bytes:
        """By the client's codec; where it cannot tell the end, what it says of a stream that broke off."""
        try:
            return self._written.end()
        except _UNWRITABLE:
            return self._written.broken("stream_broken", "The stream was broken off: its end cannot be told.")

    def body(self, body: bytes) -> Fault | None:
        """By the provider's codec; writes what the client gets."""
        reply = self._reply(body)
        if isinstance(reply, Fault):
            return reply
        try:
            self._answer = dumped(self._client.reply(self._named(reply), self._asked))
        except _UNWRITABLE:                 # what no client of this dialect could read
            return _NONSENSE
        return None

    def answer(self, body: bytes) -> bytes:
        """What the codecs made of it."""
        return self._answer

    def _named(self, document: dict[str, Any]) -> dict[str, Any]:
        return document if self._name is None else {**document, "model": self._name.told}
