"""What a codec is: a dialect to and from the canonical form, OpenAI's chat completions. N codecs, never N times M.

    the client's body --ClientCodec.request--> canonical --ProviderCodec.request--> the provider's body
    the client's reply <--ClientCodec.reply--- canonical <--ProviderCodec.reply---- the provider's reply

and the same for the events of a stream, one at a time. Codecs are pure and sans-IO: no clock, no randomness, no logging;
what they need of those stands in `Ask` and `Asked`. They never change what they are given. What a client sent wrong is a
`Refusal`; what a provider sent wrong is `Garbled`. Neither quotes what a body holds.

Beyond OpenAI's API reference the canonical form has these members, each ignored by those who do not know it:

    messages[].reasoning_content    text of the model's reasoning, in replies and streams too
    messages[].thinking_blocks      [{type: thinking, thinking, signature} | {type: redacted_thinking, data}]: for the
                                    provider that made them, on the next turn; in a stream each whole, in one delta
    tool_calls[].extra_content      {google: {thought_signature}}, as Google's OpenAI-compatible API has it; of a message
                                    or delta where it is its text that is signed
    messages[].is_error             of a tool's result: the tool failed
    extra_body                      {google: {…}}: members of a Gemini request that nobody else has a word for
    cache_control                   of a message's part, of a message, of a tool: Anthropic's, as it came
    thinking                        {type: enabled, budget_tokens} | {type: adaptive} | {type: disabled}: the client was exact
    top_k                           as Anthropic's, Gemini's and Cohere's
    usage.prompt_tokens_details     {cached_tokens, cache_creation_tokens}: both are part of prompt_tokens
    file.file_url                   of a part: a document by its URL
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from mitmgate.dialects.reading import Kind
from mitmgate.errors import Fault
from mitmgate.exchange import Sent as Sent  # codecs find all that they need here

type Document = Mapping[str, Any]
"""A JSON object."""


class Garbled(Exception):
    """The provider's reply is not what its API says. The message is ours and quotes nothing."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one target is asked, canonically. `document` is a chat completion's request, checked by nobody yet."""

    document: Document
    model: str
    stream: bool
    id: str                                 # of the exchange; ids that the provider lacks are made from it
    created: int                            # Unix seconds
    output_limit: int | None = None         # of the model, tokens: for providers that must be told a maximum
    base_model: str | None = None           # what a deployment really is; decides what the model understands
    api_version: str | None = None
    quirks: frozenset[str] = frozenset()    # of the provider (`providers.vendors`)


class Step(NamedTuple):
    """What one of the provider's events is, and what it stands for: chat.completion.chunk objects, none or several."""

    kind: Kind
    chunks: tuple[dict[str, Any], ...] = ()


class ProviderStream(Protocol):
    """Reads one reply's events. Of a whole one, some chunk had the finish reason, and the last (`choices: []`) the usage."""

    def read(self, event: bytes) -> Step:
        """One whole event as it came (a server-sent event, or a frame). ERROR and GARBAGE have no chunks."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the reply has reached its end; if it stops before, it was cut."""
        ...

    def fault_of(self, event: bytes) -> Fault:
        """The fault that an ERROR event stands for: with `status`, `code`, and in `body` the event's JSON."""
        ...


class Failed(NamedTuple):
    """What a failing reply's body says: `code` as OpenAI's where it means the same, and the provider's own message."""

    code: str | None
    message: str | None


class ProviderCodec(Protocol):
    """A provider's dialect, for one operation."""

    def request(self, ask: Ask) -> Sent:
        """Raises Refusal (`invalid_request`, or `capability_missing` for what this provider cannot be asked)."""
        ...

    def reply(self, document: Document, ask: Ask) -> dict[str, Any]:
        """A chat.completion object. Raises Garbled."""
        ...

    def stream(self, ask: Ask) -> ProviderStream:
        """A fresh reader."""
        ...

    def failed(self, status: int, body: bytes) -> Failed:
        """Read the body of a failing reply; whatever it is, it does not raise."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What the client asked, in its own words."""

    document: Document                      # its body
    model: str                              # as the client is to be told
    stream: bool
    id: str                                 # of the exchange; ids that the client's dialect wants are made from it
    created: int                            # Unix seconds
    query: Mapping[str, str] = field(default_factory=dict)      # of its URL, names in lower case


class ClientStream(Protocol):
    """Writes one reply's events. Given canonical chunks, `end` after the last of a complete reply or `broken` in its place."""

    def write(self, chunk: Document) -> bytes:
        """Whole events, or nothing."""
        ...

    def end(self) -> bytes:
        """What ends a reply that is whole, terminator included."""
        ...

    def broken(self, code: str, message: str) -> bytes:
        """The error event of a stream that broke off. `code`: of `errors.CODES`."""
        ...


class ClientCodec(Protocol):
    """A client's dialect, for one operation."""

    def request(self, asked: Asked) -> dict[str, Any]:
        """The canonical request; `model` and `stream` too. Raises Refusal (`invalid_request`) for what it cannot be."""
        ...

    def reply(self, reply: Document, asked: Asked) -> dict[str, Any]:
        """The client's reply out of a chat.completion object."""
        ...

    def stream(self, asked: Asked) -> ClientStream:
        """A fresh writer."""
        ...

    @property
    def media(self) -> str:
        """The content type of its streams."""
        ...

    def error(self, status: int, code: str, message: str) -> bytes:
        """The body of an error; `code`: of `errors.CODES`, or a provider's that means the same as OpenAI's."""
        ...
