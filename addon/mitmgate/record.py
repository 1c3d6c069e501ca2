"""What is left of an exchange when it has ended: log, metrics and headers read this and nothing else.

Named tuples: made for every exchange, a frozen dataclass of that many fields takes five times as long.
"""

from typing import Literal, NamedTuple


class AttemptRecord(NamedTuple):
    """One try, as a record tells it."""

    provider: str
    model: str | None
    outcome: str                            # "ok", or the fault's kind
    reason: str | None                      # ours, safe to show
    status: int | None
    milliseconds: int
    wait_ms: int = 0                        # of back-off before it
    connect_ms: int | None = None           # from its start, as the next three; None: not known, or not so far
    tls_ms: int | None = None
    first_byte_ms: int | None = None
    first_content_ms: int | None = None


class SkippedRecord(NamedTuple):
    """A target of the route that was not in the plan, as a record tells it."""

    target: str                             # provider/model
    reason: str


class GuardrailRecord(NamedTuple):
    """A guardrail that was in force, as a record tells it."""

    name: str
    action: str | None                      # None: the guardrail's own
    outcome: str | None = None              # None: it was not run


class Billing(NamedTuple):
    """What the cost of an exchange is worked out from, off the request path (`telemetry.costs`)."""

    provider: str
    dialect: str
    host: str
    models: tuple[str, ...]                 # what the price may be listed under, the surest first
    base_model: str | None = None           # what a deployment really is, by the rules
    price: tuple[float, float] | None = None    # of the rules: USD per million tokens in and out


class Record(NamedTuple):
    """The frozen summary of a finished exchange. No user text, no secrets.

    Names that the client chose (`requested_model`, `tags`) are cleaned by `telemetry.records` before they are written. What
    stands in no line: `billing`, from which the line's costs are worked out.
    """

    id: str
    at: float                               # Unix seconds at which it began
    way: Literal["direct", "proxied"]
    operation: str
    method: str
    client: str
    rules: int                              # generation of the rules that served it
    route: str | None
    requested_model: str | None             # the client's
    target_model: str | None                # asked for, after routing
    served_model: str | None                # the provider's word
    provider: str | None
    stream: bool
    status: int
    code: str | None                        # of CODES, where we refused or gave up
    broken: str | None
    attempts: tuple[AttemptRecord, ...]
    fallback_from: str | None               # the model first asked for, when another target than the first answered
    retries: int                            # tries beyond the first, summed over targets
    tokens_input: int | None
    tokens_output: int | None
    milliseconds: int                       # whole exchange
    first_content_ms: int | None            # to the commit
    request_bytes: int
    upstream_request_id: str | None
    project: str = "unknown"
    tenant: str | None = None
    task: str | None = None                 # the client's
    tags: tuple[tuple[str, str], ...] = ()  # the client's
    alias: str | None = None                # the model that an alias stood for
    where: str | None = None                # file:line of the route; None: it is built in
    skipped: tuple[SkippedRecord, ...] = ()
    policies: tuple[str, ...] = ()          # in force, by name; projects that demand something too
    guardrails: tuple[GuardrailRecord, ...] = ()
    cache: Literal["HIT", "MISS", "BYPASS"] = "BYPASS"
    stages: tuple[tuple[str, float], ...] = ()  # milliseconds by stage, over all attempts
    own_ms: float = 0.0                     # the gateway's own: what is neither of the next three
    body_ms: int = 0                        # waiting for the request's body
    wait_ms: int = 0                        # back-off
    upstream_ms: int = 0                    # attempts, connects included
    billing: Billing | None = None
