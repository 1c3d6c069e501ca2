"""What the transport asks of a reply while it passes: is this content, the end, an error? Pure and sans-IO.

A reader belongs to one attempt. It never changes a byte; it says what an event is, so that the transport can commit at
the first content, tell an end from a cut, and take the usage for the record.
"""

from enum import Enum
from typing import Protocol

from mitmgate.errors import Fault


class Kind(Enum):
    """What one event of a stream is."""

    OTHER = "other"                         # a ping, a role, a comment: nothing that a person would read
    CONTENT = "content"
    END = "end"                             # a finish reason or the dialect's own terminator
    ERROR = "error"
    GARBAGE = "garbage"                     # not what the dialect says an event is


class ReplyReader(Protocol):
    """Reads one attempt's reply."""

    served_model: str | None
    tokens_input: int | None
    tokens_output: int | None

    def event(self, event: bytes) -> Kind:
        """What one whole server-sent event is."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the stream has reached its end; if it stops before, it was cut."""
        ...

    def fault_of(self, event: bytes) -> Fault:
        """The fault that an ERROR event stands for."""
        ...

    def body(self, body: bytes) -> Fault | None:
        """Read a whole JSON reply of a 2xx status; a fault if it is not what it says it is."""
        ...

    def failure(self, status: int, body: bytes) -> str | None:
        """The error code that a failing reply's body names, if it does; decides who may be asked next."""
        ...
