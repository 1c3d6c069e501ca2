"""Which operation a client-facing path is. One table of suffixes; the APIs' prefixes say whose they are."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from mitmgate.errors import Refusal
from mitmgate.exchange import Arrival, Endpoint


class Row(NamedTuple):
    """A path below an API's base; `whole`: nothing may follow it; `listed`: GET lists what POST has stored."""

    suffix: str
    operation: str
    whole: bool = False
    post_only: bool = False
    content: Literal["json", "multipart", "any"] = "any"
    listed: bool = False


_OPENAI: Final = (
    Row("/chat/completions", "chat", True, True, "json", True),
    Row("/completions", "completions", True, True, "json"),
    Row("/embeddings", "embeddings", True, True, "json"),
    Row("/rerank", "rerank", True, True, "json"),
    Row("/moderations", "moderation", True, True, "json"),
    Row("/responses", "responses", True, False, "json"),
    Row("/messages/count_tokens", "count_tokens", True, True, "json"),
    Row("/messages", "messages", True, True, "json"),
    Row("/audio/transcriptions", "transcription", True, True, "multipart"),
    Row("/audio/translations", "transcription", True, True, "multipart"),
    Row("/audio/speech", "speech", True, True, "json"),
    Row("/audio/voices", "voices"),
    Row("/audio/pipelines", "audio_pipeline"),
    Row("/images/generations", "image", True, True, "json"),
    Row("/images", "image"),
    Row("/files", "files"),
    Row("/uploads", "files"),
    Row("/batches", "batches"),
    Row("/models", "models"),
    Row("/realtime", "realtime"),
    Row("/responses", "responses"),
)
_PREFIXES: Final = ("/api/v1", "/openai/v1", "/v1", "/openai")
_DEPLOYMENT: Final = re.compile(r"/openai/deployments/([^/]+)(/.+)")
# Gemini's API and Vertex's, whose paths name model and method: …/models/gemini-2.5-flash:generateContent
_GEMINI: Final = re.compile(
    r"/(?:v1|v1alpha|v1beta|v1beta1)(?:(?:/projects/[^/]+/locations/[^/]+)?/publishers/google)?/(models|tunedModels)/([^/:]+):([A-Za-z]+)"
)
_GEMINI_METHODS: Final[Mapping[str, tuple[str, bool]]] = {
    "generateContent": ("chat", False), "streamGenerateContent": ("chat", True), "countTokens": ("count_tokens", False),
    "embedContent": ("embeddings", False), "batchEmbedContents": ("embeddings", False),
}  # fmt: skip
"""Operation, and whether the reply is a stream. Source: Gemini API reference, "All methods"."""
_GEMINI_FOLDED: Final = re.compile(_GEMINI.pattern, re.IGNORECASE)
_ANTHROPIC: Final = frozenset({"messages", "count_tokens"})
_LOOSE_TOTAL: Final = 600.0                 # seconds: what SDKs expect
_API_TOTAL: Final = 60.0


def recognise(arrival: Arrival) -> Endpoint | None:
    """The endpoint of a request; see `endpoint_of`."""
    return endpoint_of(arrival.path, arrival.method)


@lru_cache(1024)
def endpoint_of(path: str, method: str) -> Endpoint | None:
    """The endpoint of a normalised path, None if its path belongs to no API that we know. Raises Refusal for a wrong method.

    A path that is a known one but for its letters' case is refused: some servers fold the case, others do not, and no
    rule may be walked past by a spelling.
    """
    if ":" in path and (called := _GEMINI_FOLDED.fullmatch(path)) and not _is_tagged(called, method):
        return _gemini(path, called, method)
    if deployment := _DEPLOYMENT.fullmatch(path):
        return _row(method, deployment[2], model=deployment[1], total=_LOOSE_TOTAL)
    if path.lower().startswith("/openai/deployments/"):
        if path.startswith("/openai/deployments/"):
            return None
        raise Refusal("invalid_request", "The path is spelled in another case than the API's.")
    for prefix in _PREFIXES:
        if path.startswith(prefix + "/"):
            return _row(method, path[len(prefix) :], model=None, total=_API_TOTAL if prefix == "/api/v1" else _LOOSE_TOTAL)
    known = tuple(prefix + "/" for prefix in _PREFIXES)
    if path.lower().startswith(known) and not path.startswith(known):
        raise Refusal("invalid_request", "The path is spelled in another case than the API's.")
    return None


def _is_tagged(called: re.Match[str], method: str) -> bool:
    """Whether this reads or deletes one of OpenAI's models with a tag in its name (Ollama's `llama3:latest`): Google's
    methods are called with POST."""
    return method != "POST" and called[3].lower() not in _GEMINI_NAMES


def _gemini(path: str, called: re.Match[str], method: str) -> Endpoint:
    kind, model, name = called.groups()
    if not _GEMINI.fullmatch(path) or (name not in _GEMINI_METHODS and name.lower() in _GEMINI_NAMES):
        raise Refusal("invalid_request", "The path is spelled in another case than the API's.")
    operation, streams = _GEMINI_METHODS.get(name, ("other", False))
    if operation != "other" and method != "POST":
        raise Refusal("method_not_allowed", f"{method} is not allowed here; use POST.", headers={"allow": "POST"})
    content: Literal["json", "any"] = "json" if operation != "other" else "any"
    return Endpoint(operation, "gemini", f"/{kind}/{model}:{name}", model, _LOOSE_TOTAL, content, streams)


_GEMINI_NAMES: Final = frozenset(name.lower() for name in _GEMINI_METHODS)


def _row(method: str, suffix: str, *, model: str | None, total: float) -> Endpoint:
    folded = suffix.lower()
    for row in _OPENAI:
        if folded != row.suffix and (row.whole or not folded.startswith(row.suffix + "/")):
            continue
        if not suffix.startswith(row.suffix):
            raise Refusal("invalid_request", "The path is spelled in another case than the API's.")
        listed = row.listed and model is None       # Azure's deployments have no list
        if listed and method == "GET":              # `other`, as each of what is stored is by its id
            return Endpoint("other", "openai", suffix, None, total, "none")
        if row.post_only and method != "POST":
            allowed = ("GET", "POST") if listed else ("POST",)
            message = f"{method} is not allowed here; use {' or '.join(allowed)}."
            raise Refusal("method_not_allowed", message, headers={"allow": ", ".join(allowed)})
        has_body = method in ("POST", "PUT", "PATCH")
        return Endpoint(
            operation=row.operation,
            dialect="anthropic" if row.operation in _ANTHROPIC else "openai",
            suffix=suffix,
            model=model,
            default_total=total,
            content=row.content if has_body else "any",
        )
    return Endpoint("other", "openai", suffix, model, total)
