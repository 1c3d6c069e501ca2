"""One request and its reply while they are alive, and the words that all floors share about them.

`Exchange` is mutable, and each of its fields has one writer, named beside it. Everything else here is frozen. When the
exchange ends, a `Record` is made from it once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from mitmgate.errors import Fault, Refusal
from mitmgate.globs import Globs


class Origin(NamedTuple):
    """Where a connection goes; a credential is bound to one of these (RFC 6454, section 4)."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        default = {"http": 80, "https": 443}.get(self.scheme)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" if self.port == default else f"{self.scheme}://{host}:{self.port}"


class Credential(Protocol):
    """A provider's secret, read when it is needed, because files are replaced while we run."""

    def secret(self) -> str | None:
        """The value to send now; None if there is none (an unset variable, an empty file)."""
        ...

    def rejected(self, secret: str) -> None:
        """The provider answered 401 to this value: read the file again, try the next of a list."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """A vendor or server, compiled: where it is, how it is addressed and authorised, what wire format it speaks."""

    name: str
    dialect: str                            # openai | anthropic | azure | gemini | … | simulator (speaks openai)
    origin: Origin
    base_path: str                          # no trailing slash: "/v1"
    authorisation: Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "xi-api-key", "token", "none"] = "bearer"
    credential: Credential | None = None    # None: the client's own (`credential: client`) if `client_credential`, else none
    client_credential: bool = False
    active: bool = True                     # False: its credential's variable is unset, or `disabled: true`
    headers: Mapping[str, str] = field(default_factory=dict)
    ca: str | None = None                   # path of a PEM file that is trusted instead of the public CAs
    client_cert: str | None = None          # path of a PEM file with key and certificate
    proxy: Origin | None = None             # a corporate proxy to go through
    proxy_credential: Credential | None = None
    zone: Literal["external", "internal"] = "external"
    region: str | None = None
    base_model: str | None = None           # what its deployments really are, where a target does not say
    vendor: str | None = None               # a row of `providers.vendors`; None: nobody of the table
    api_version: str | None = None          # Azure's, a date; None: its v1 API
    quirks: frozenset[str] = frozenset()    # what it does otherwise than its dialect says (`providers.vendors`)
    original: bool = False                  # where the client meant to go: its path, query and credential go as they came


@dataclass(frozen=True, slots=True)
class Target:
    """A provider and a model to ask it for; None asks for the model that the client named."""

    provider: Provider
    model: str | None = None
    weight: float = 1.0
    priority: int = 0
    context_window: int | None = None       # tokens; None: unknown
    capabilities: frozenset[str] | None = None      # of the rules, whole; None: as the catalogue has them
    reasoning: Literal["low", "medium", "high"] | None = None       # of the rules: its tier
    base_model: str | None = None           # what a deployment really is
    price: tuple[float, float] | None = None    # of the rules: USD per million tokens in and out
    force: Mapping[str, Any] = field(default_factory=dict, hash=False)      # `set:` of this target, over the route's
    default: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        """Its name in records, health and metrics: `provider/model`."""
        return f"{self.provider.name}/{self.model or '*'}"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. DESIGN §4, "Time": what each bounds."""

    connect: float = 5.0
    first_token: float | None = None        # None: bounded by `total` alone
    idle: float = 60.0
    total: float | None = None              # None in a rule: the endpoint's own; a plan's is always set
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class RetryRule:
    """`retry:` of a route. `max` is tries beyond the first per target."""

    max: int = 2
    on: frozenset[str] = frozenset({"connect", "timeout", "408", "409", "429", "5xx"})
    backoff_base: float = 0.5
    backoff_max: float = 8.0


@dataclass(frozen=True, slots=True)
class Allow:
    """`allow:` of a project or policy: globs; None: anything."""

    regions: Globs | None = None
    providers: Globs | None = None
    models: Globs | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """`for:` of a policy: which targets it speaks of; None: any."""

    zone: str | None = None
    region: Globs | None = None
    provider: Globs | None = None
    model: Globs | None = None


@dataclass(frozen=True, slots=True)
class Guarded:
    """A guardrail that is in force, who asks for it, and where that is written."""

    guardrail: str
    action: str | None                      # None: the guardrail's own
    by: str                                 # "route drafts", "project support", "policy pii-stays-in"
    where: str | None


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a policy or a project demands of every target of an exchange, whoever named the target."""

    name: str                               # "policy eu-only", "project support"
    where: str | None                       # file:line
    reach: Reach = Reach()
    allow: Allow = Allow()
    guardrails: tuple[Guarded, ...] = ()
    refuse: tuple[int, str] | None = None   # status and message: what it reaches is not served


@dataclass(frozen=True, slots=True)
class Dropped:
    """A target of the route that is not in the plan, and why: written for operators."""

    target: Target
    reason: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The route that serves a request, with what its pattern captured filled in. Set once, by `match_route`."""

    route: str                              # its name
    where: str | None                       # file:line; None for what is built in
    targets: tuple[Target, ...]
    by_path: bool = False                   # its `match:` names a path, so it may serve one of no API that we know
    fallback: tuple[Target, ...] = ()
    strategy: str = "fallback"
    retry: RetryRule = RetryRule()
    deadlines: Deadlines = Deadlines()
    force: Mapping[str, Any] = field(default_factory=dict)      # `set:`
    default: Mapping[str, Any] = field(default_factory=dict)    # `default:`
    sticky: tuple[str, ...] = ()            # header:NAME, body:NAME, conversation: the first that is present decides
    guardrails: tuple[Guarded, ...] = ()
    strict: bool = False                    # a target that cannot be told all that is asked is not asked
    refuse: tuple[int, str] | None = None   # `refuse:` status and message: this route serves nobody


class Sent(NamedTuple):
    """What a codec makes of a request for one target."""

    path: str                               # below the provider's base URL, with its query, percent-encoded
    document: Mapping[str, Any]
    headers: tuple[tuple[str, str], ...] = ()   # beside content-type; names in lower case
    dropped: tuple[str, ...] = ()           # members of the canonical request that this provider cannot be told
    effort: str | None = None               # the reasoning effort that was applied, if any


@dataclass(frozen=True, slots=True)
class Plan:
    """The ordered targets of one exchange and the rules of trying them. Set once, by `plan_targets`."""

    targets: tuple[Target, ...]
    retry: RetryRule
    deadlines: Deadlines
    force: Mapping[str, Any] = field(default_factory=dict)      # `set:`
    default: Mapping[str, Any] = field(default_factory=dict)    # `default:`
    names_model: bool = False               # the request asks for a model, so that a 404 means the target lacks it
    dropped: tuple[Dropped, ...] = ()       # the route's other targets
    sent: tuple[Sent | None, ...] = ()      # by target: what a codec makes of the request; None: its body passes as it came


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a request came in. Set by the bridge; never changes. `path` is decoded and normalised, without the query."""

    direct: bool                            # origin form outside a tunnel: a base_url call
    intercepted: bool                       # its host is under `intercept:` (or the mode names the destination)
    origin: Origin                          # where the client believes it is talking to
    method: str
    target: str                             # the request target as it came
    path: str
    query: str                              # as it came, without "?"
    client: str                             # the client's address, textual, no port
    http_version: str
    websocket: bool = False
    proxy_user: str | None = None           # the name in Proxy-Authorization, of this request or of its tunnel
    local: str = ""                         # the address of ours that the client connected to, textual, no port


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A client-facing path: what operation it is, in which dialect, and what stands in the path itself."""

    operation: str
    dialect: str                            # of the client's bodies and errors
    suffix: str                             # what follows the API's base: "/chat/completions"
    model: str | None = None                # where the path names it (Azure deployments)
    default_total: float = 600.0            # seconds, where no rule says otherwise: 60 on /api/v1
    content: Literal["json", "multipart", "any", "none"] = "any"    # what a body must be
    streams: bool = False                   # the path says that the reply is a stream, where the body cannot


@dataclass(slots=True)
class Attempt:
    """One try at one target. Opened by `translate`, completed by the layer or the addon when it ended."""

    number: int
    target: Target
    started: float                          # monotonic
    ended: float | None = None
    status: int | None = None
    fault: Fault | None = None
    secret: str | None = field(default=None, repr=False)    # what it was authorised with; for Credential.rejected
    waited: float = 0.0                     # seconds of back-off before it; set by the addon
    dropped: tuple[str, ...] = ()           # members of the request that it could not be told; set by translate
    effort: str | None = None               # that a codec said; set by translate
    translated: bool = False                # a codec wrote its body; set by translate
    asked: float | None = None              # monotonic: the layer asked for a connection; these five are set by the layer
    connected: float | None = None          # the connection was made; None: it was there already
    secured: float | None = None            # its TLS handshake was done
    first_byte: float | None = None         # the reply's head came
    first_content: float | None = None      # the commit


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What one attempt sends, before its credential is written. Names in lower case."""

    method: str
    origin: Origin
    target: str                             # path and query
    headers: tuple[tuple[str, str], ...]
    body: bytes | None                      # None: the exchange's body as it came, with `splice` put in
    splice: tuple[int, int, bytes] | None = None    # a byte range of the body and what takes its place


@dataclass(slots=True)
class Usage:
    """Tokens as the provider counted them; None: it did not say."""

    input: int | None = None
    output: int | None = None


class Body(Protocol):
    """A request body, whole: in memory or spooled to disk (`bodies.py`)."""

    @property
    def size(self) -> int:
        """Bytes as they came."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that the gateway gives itself. Header names in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(slots=True)
class Exchange:
    """One request and its reply while they are alive."""

    id: str                                             # set by the bridge
    arrival: Arrival                                    # set by the bridge
    request_headers: Mapping[str, str]                  # set by the bridge; by name in lower case, several joined with ", "
    header_fields: tuple[tuple[str, str], ...]          # set by the bridge; the same, each as it came, names in lower case
    started: float                                      # monotonic; set by the bridge
    started_at: float                                   # Unix seconds; set by the bridge
    deadline: float = 0.0                               # monotonic end of `total`; set by plan_targets

    endpoint: Endpoint | None = None                    # set by the bridge, from endpoints.recognition
    body: Body | None = None                            # set by the bridge when it is whole
    document: dict[str, Any] | None = None              # the parsed JSON body; set by read_request
    stream: bool = False                                # the client asked for an event stream; set by read_request
    requested_model: str | None = None                  # the client's; set by read_request
    model_span: tuple[int, int] | None = None           # where a multipart body names it, bytes; set by read_request
    delimiter: bytes | None = None                      # that begins a multipart body and each part; set by read_request
    held_bytes: int = 0                                 # of the bytes in flight; written by Services.reserve
    project: str = "unknown"                            # whose call it is; set by identify
    tenant: str | None = None                           # set by identify
    task: str | None = None                             # X-GateFlow-Task-Type; set by identify
    tags: Mapping[str, str] = field(default_factory=dict)   # set by identify
    model: str | None = None                            # `requested_model` after `aliases:`; set by match_route
    constraints: tuple[Constraint, ...] = ()            # of policies and project; set by match_route
    raw: bytes | None = None                            # the JSON body as it came, decoded; set by read_request
    canonical: dict[str, Any] | None = None             # as a chat completion, where one is needed; set by plan_targets
    chosen: Chosen | None = None                        # the route; set by match_route
    plan: Plan | None = None                            # set by plan_targets
    position: int = 0                                   # of the next attempt's target in the plan; set by the addon
    upstream: UpstreamRequest | None = None             # of the next attempt; set by translate
    credential: tuple[tuple[str, str], ...] = ()        # headers that the layer writes last; set by authorise
    attempts: list[Attempt] = field(default_factory=list)   # appended by translate
    reply: Reply | None = None                          # set by a stage that answers itself; ends its phase
    refusal: Refusal | None = None                      # set by the addon, when a stage refused or all tries failed
    broken: str | None = None                           # why the reply was broken off after the commit; set by the addon
    status: int | None = None                           # what the client got; set by the addon
    served_model: str | None = None                     # the provider's word for it; set by read_reply
    usage: Usage = field(default_factory=Usage)         # set by the addon, from the reader
    first_content: float | None = None                  # monotonic; set by the addon at the commit
    ended: float | None = None                          # monotonic; set by the addon
    head: float | None = None                           # monotonic; its head was dealt with, a body may come; set by the addon
    whole: float | None = None                          # monotonic; its body was there; set by the addon
    stage_seconds: dict[str, float] = field(default_factory=dict)   # by stage, all attempts; written by pipeline.execute

    @property
    def attempt(self) -> Attempt | None:
        """The latest try."""
        return self.attempts[-1] if self.attempts else None
