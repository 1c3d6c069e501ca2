"""A reader for replies that no codec understands: every event is content, and their end is the end of the body."""

from mitmgate.dialects.reading import AsItCame, Kind
from mitmgate.errors import Fault, FaultKind
from mitmgate.sse import event_data


class OpaqueReader(AsItCame):
    """Passes a foreign dialect through: commits at its first event that has data, cannot tell an end from a cut."""

    __slots__ = ("served_model", "tokens_input", "tokens_output")

    def __init__(self) -> None:
        self.served_model: str | None = None
        self.tokens_input: int | None = None
        self.tokens_output: int | None = None

    def event(self, event: bytes) -> Kind:
        """Content, if it holds data at all."""
        return Kind.CONTENT if event_data(event) else Kind.OTHER

    @property
    def complete(self) -> bool:
        """Always: this dialect's terminator is not known here."""
        return True

    def fault_of(self, event: bytes) -> Fault:
        """Never asked: no event is an error to this reader."""
        return Fault(FaultKind.ERROR_EVENT, "the provider sent an error event")

    def body(self, body: bytes) -> Fault | None:
        """Whatever it is, it passes."""
        return None

    def failure(self, status: int, body: bytes) -> str | None:
        """Not known."""
        return None
