"""Where at a provider an endpoint is, by its dialect. Sources: each provider's API reference, "base URL"."""

from functools import lru_cache
from typing import Final
from urllib.parse import quote

from mitmgate.dialects.canonical import in_path
from mitmgate.dialects.gemini.words import method_path
from mitmgate.exchange import Endpoint, Provider

_SAFE: Final = "/:@!$&'()*+,=~-._"
_DEPLOYED: Final = frozenset({"chat", "completions", "embeddings", "transcription", "speech", "image"})
"""Azure's operations that stand below a deployment; its others are the resource's own."""


def path_of(provider: Provider, endpoint: Endpoint, model: str | None) -> tuple[str, str]:
    """The path of a call whose body passes as it came, and what its query needs beside the client's. Raises Refusal for a
    model whose name cannot stand in it."""
    match provider.dialect:
        case "azure":
            return _azure(provider, endpoint, model)
        case "anthropic":
            return joined(provider.base_path, _quoted("/v1" + endpoint.suffix)), ""
        case "gemini" if model not in (None, endpoint.model) and ":" in endpoint.suffix:
            assert model is not None
            method = endpoint.suffix.rpartition(":")[2]
            return joined(provider.base_path, method_path(model, method)), ""
    return _quoted(provider.base_path + endpoint.suffix), ""


def path_of_sent(provider: Provider, path: str, model: str | None) -> str:
    """The path and the query of a call that a codec wrote; `path`: the codec's, below the base URL."""
    if provider.dialect != "azure":
        return joined(provider.base_path, path)
    return "?".join(each for each in _azure(provider, Endpoint("chat", "openai", path), model) if each)


def _azure(provider: Provider, endpoint: Endpoint, model: str | None) -> tuple[str, str]:
    """Its v1 API is OpenAI's; the dated one names the deployment in the path (Azure OpenAI REST API reference)."""
    base = provider.base_path.removesuffix("/v1").removesuffix("/openai") + "/openai"
    if provider.api_version is None:
        return _quoted(base + "/v1" + endpoint.suffix), ""
    version = f"api-version={quote(provider.api_version, safe='')}"
    if endpoint.operation in _DEPLOYED and model is not None:
        return f"{_quoted(base)}/deployments/{in_path(model)}{_quoted(endpoint.suffix)}", version
    return _quoted(base + endpoint.suffix), version


def joined(base: str, path: str) -> str:
    """A base path and what is below it, both escaped; a version that both name is named once (`…/v1` and `/v1/messages`)."""
    last = base[base.rfind("/") :] if "/" in base else ""
    return base + (path[len(last) :] if last and path.startswith(last + "/") else path)


@lru_cache(4096)
def _quoted(path: str) -> str:
    return quote(path, safe=_SAFE)
