"""What the transport asks of a reply while it passes: is this content, the end, an error, and what does the client get of it?

A reader belongs to one attempt. It says what an event is, so that the transport can commit at the first content, tell an
end from a cut, and take the usage for the record; and what is written to the client in its place: the event as it came,
or what a codec makes of it. Pure and sans-IO.
"""

from enum import Enum
from typing import Final, Protocol

from mitmgate.errors import Fault, error_body
from mitmgate.sse import EventSplitter


class Kind(Enum):
    """What one event of a stream is."""

    OTHER = "other"                         # a ping, a role, a comment: nothing that a person would read
    CONTENT = "content"
    END = "end"                             # a finish reason or the dialect's own terminator
    ERROR = "error"
    GARBAGE = "garbage"                     # not what the dialect says an event is


def is_crowded(event: bytes) -> bool:
    """Whether an event holds more values than any answer has: reading them in one go would stall everybody. A large event is
    an image or a long text, of few values; so these are counted in large ones alone, with those that its texts seem to hold."""
    return len(event) > _LARGE and (event.count(b",") > _MOST_COMMAS or event.count(b"{") + event.count(b"[") > _MOST_OPENED)


_LARGE: Final = 128 << 10                   # bytes of an event; a smaller one is done with in some ms, whatever it holds
_MOST_COMMAS: Final = 200_000
_MOST_OPENED: Final = 20_000


class Splitter(Protocol):
    """Cuts a stream's bytes into whole events, as they came."""

    @property
    def pending(self) -> int:
        """Bytes of the event that has begun and not ended."""
        ...

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes."""
        ...

    def rest(self) -> bytes:
        """The unfinished tail; the splitter is empty afterwards."""
        ...


class ReplyReader(Protocol):
    """Reads one attempt's reply."""

    served_model: str | None
    tokens_input: int | None
    tokens_output: int | None

    @property
    def stream_media(self) -> str:
        """The content type of the provider's event streams."""
        ...

    @property
    def media(self) -> str | None:
        """The content type of what the client gets of an event stream, where it is another."""
        ...

    @property
    def translates(self) -> bool:
        """Whether the client gets another body than the provider sent."""
        ...

    def splitter(self) -> Splitter:
        """A fresh one for the provider's event streams."""
        ...

    def event(self, event: bytes) -> Kind:
        """What one whole event is."""
        ...

    def written(self, event: bytes) -> bytes:
        """What the client gets for it; asked once, right after `event`. Nothing for one that is not its business."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the stream has reached its end; if it stops before, it was cut."""
        ...

    def ending(self) -> bytes:
        """What the client gets at the end of a complete stream, after its events."""
        ...

    def broken(self, code: str, message: str) -> bytes:
        """The error event for a stream that broke off, in the client's dialect. `code`: of `errors.CODES`."""
        ...

    def fault_of(self, event: bytes) -> Fault:
        """The fault that an ERROR event stands for."""
        ...

    def body(self, body: bytes) -> Fault | None:
        """Read a whole JSON reply of a 2xx status; a fault if it is not what it says it is."""
        ...

    def answer(self, body: bytes) -> bytes:
        """What the client gets for the body that was read last."""
        ...

    def failure(self, status: int, body: bytes) -> str | None:
        """The error code that a failing reply's body names, if it does; decides who may be asked next."""
        ...


class AsItCame:
    """What a reader answers when the client gets the provider's bytes as they came, and speaks OpenAI's dialect."""

    __slots__ = ()

    stream_media = "text/event-stream"
    media: str | None = None
    translates = False

    def splitter(self) -> Splitter:
        """Of server-sent events."""
        return EventSplitter()

    def written(self, event: bytes) -> bytes:
        """The event."""
        return event

    def ending(self) -> bytes:
        """Nothing: the provider's own terminator went on."""
        return b""

    def broken(self, code: str, message: str) -> bytes:
        """OpenAI's error object, as an event."""
        return b"data: " + error_body(code, message) + b"\n\n"

    def answer(self, body: bytes) -> bytes:
        """The body."""
        return body
