"""The stream of an operation that has none."""

from mitmgate.dialects.codec import Step
from mitmgate.dialects.reading import Kind
from mitmgate.errors import Fault, FaultKind


class Unstreamed:
    """Whatever comes as an event is not what was asked for."""

    __slots__ = ()

    def read(self, event: bytes) -> Step:
        """Garbage."""
        return Step(Kind.GARBAGE)

    @property
    def complete(self) -> bool:
        """Never."""
        return False

    def fault_of(self, event: bytes) -> Fault:
        """Never asked: no event is an error here."""
        return Fault(FaultKind.GARBAGE, "the provider sent an event stream where its API has none")
