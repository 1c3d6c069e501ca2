"""What the addon and the layer tell each other about one request.

The addon says who may be asked next, by arming a permit; the layer says what became of it. The permit is the only way
from a stream to an upstream, and it is good for one connection: a hook that raised armed nothing, so nothing is sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, cast

from mitmproxy import http
from mitmproxy.connection import Server

from mitmgate.bodies import MemoryBody, SpooledBody
from mitmgate.dialects.reading import ReplyReader
from mitmgate.errors import Fault
from mitmgate.exchange import Deadlines, Exchange, Origin, UpstreamRequest
from mitmgate.runtime import Snapshot


class Tag(NamedTuple):
    """Whose a connection is. Two providers never share one, even at the same address: their trust may differ."""

    origin: Origin
    provider: str | None                    # None: passed through, nobody's
    http1_only: bool = False                # a WebSocket needs HTTP/1.1
    ca: str | None = None                   # PEM files, as in `UpstreamTls`, by the rules that the exchange began with:
    client_cert: str | None = None          # rules that change them make new connections


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one attempt."""

    tag: Tag
    proxy: Origin | None                    # a corporate proxy to go through
    deadlines: Deadlines
    total_at: float                         # monotonic seconds
    request: UpstreamRequest
    credential: tuple[tuple[str, str], ...]
    body: MemoryBody | SpooledBody | None
    reader: ReplyReader
    response_limit: int                     # bytes of a collected reply
    json_only: bool = False                 # a good reply of this operation is JSON or an event stream, nothing else


class Broken(StrEnum):
    """Why a reply was broken off after its head had gone to the client; a word for the record, told in `BROKEN`."""

    SILENT = "silent"
    CONNECTION = "connection_broke"
    ENDED_EARLY = "ended_early"
    ERROR_EVENT = "error_event"
    TOO_LARGE = "too_large"
    ENCODING = "encoding"
    GARBAGE = "garbage"
    CLIENT_LEFT = "client_left"


BROKEN: Final[Mapping[Broken, str]] = {
    Broken.SILENT: "the provider fell silent",
    Broken.CONNECTION: "the provider's connection broke",
    Broken.ENDED_EARLY: "the provider's stream ended before its end",
    Broken.ERROR_EVENT: "the provider sent an error in its stream",
    Broken.TOO_LARGE: "the provider sent more than is accepted",
    Broken.ENCODING: "the provider's reply is not encoded as it says",
    Broken.GARBAGE: "the provider sent an event that cannot be read",
    Broken.CLIENT_LEFT: "the client left",
}


PASS = "pass"


@dataclass(slots=True)
class Passage:
    """One request on its way through the layer."""

    origin_form: bool                       # layer: an origin-form request line, outside a tunnel
    exchange: Exchange | None = None        # addon: governed requests have one
    snapshot: Snapshot | None = None        # addon: the rules that it began with, until it is recorded
    permit: Permit | None = None            # addon arms, layer takes
    through: str | None = None              # addon: PASS
    proxy: Origin | None = None             # addon: the corporate proxy of a request that passes
    body_limit: int = 0                     # addon: bytes; layer refuses beyond it
    body_idle: float = 0.0                  # addon: seconds between two pieces of the body
    body_total: float = 0.0                 # addon: seconds for the whole of it
    spool: bool = False                     # addon: beyond `bodies.SPOOL_ABOVE` the body goes to disk
    reserve: Callable[[int], bool] | None = None    # addon: asks for bytes in flight
    refused: str | None = None              # layer: why the body was refused, a code; the addon answers
    body: MemoryBody | SpooledBody | None = None    # layer: whole, before the `request` hook
    fault: Fault | None = None              # layer: why the latest attempt failed
    reader: ReplyReader | None = None       # layer: of the attempt whose reply goes to the client
    committed: bool = False                 # layer: the reply is the client's, its head goes out now
    head_sent: bool = False                 # layer: it has gone out
    broken: Broken | None = None            # layer: why the reply was broken off after that
    bug: bool = False                       # layer: it met a bug of ours; the client got 500 or a cut
    finished: bool = False                  # addon: recorded
    on_gone: Callable[[], object] | None = None     # addon: called when the client leaves while a hook waits


_ATTRIBUTE = "mitmgate"                     # not flow.metadata: mitmproxy tries to save what stands there


def passage_of(flow: http.HTTPFlow) -> Passage | None:
    """The passage that travels with a flow."""
    return cast("Passage | None", getattr(flow, _ATTRIBUTE, None))


def attach(flow: http.HTTPFlow, passage: Passage) -> None:
    """Let the passage travel with the flow."""
    setattr(flow, _ATTRIBUTE, passage)


def tag_of(server: object) -> Tag | None:
    """Whose connection this is; None for a tunnel's or a corporate proxy's."""
    return cast("Tag | None", getattr(server, _ATTRIBUTE, None))


def tag(server: Server, whose: Tag) -> None:
    """Mark a connection as somebody's, for good."""
    setattr(server, _ATTRIBUTE, whose)
