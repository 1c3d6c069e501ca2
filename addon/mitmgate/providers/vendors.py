"""Vendors as a table: where each is, how it is authorised, what wire format it speaks, which hosts applications call.

A vendor that speaks OpenAI's format is one row. Sources: each vendor's API reference, "base URL" and "authentication",
and the variables that its own SDK reads, as of November 2026.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from mitmgate.globs import Globs

Authorisation = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "xi-api-key", "token", "none"]

Quirk = Literal[
    "max_completion_tokens", "max_tokens", "no_logit_bias", "no_logprobs", "no_names", "no_responses", "no_stream_options",
    "one_choice", "random_seed",
]  # fmt: skip

QUIRKS: Final[Mapping[Quirk, str]] = {
    "max_completion_tokens": "of the two names of the output's limit only this one is known to all its models: OpenAI's"
    " reference, `max_tokens`",
    "max_tokens": "only `max_tokens` is known: Mistral answers 422 to the newer name, DeepSeek ignores it, NVIDIA's own"
    " client renames it",
    "no_logit_bias": "400 where `logit_bias` is there: Groq's page on OpenAI compatibility",
    "no_logprobs": "400 where `logprobs` or `top_logprobs` is there: the same page",
    "no_names": "400 where a message has a `name`: the same page",
    "no_responses": "no Responses API is documented: chat completions are asked for in its place",
    "no_stream_options": "422 where `stream_options` is there; the last chunk tells the usage all the same: Mistral",
    "one_choice": "400 where `n` is not 1: Groq's page on OpenAI compatibility",
    "random_seed": "`seed` is called so: Mistral's API reference",
}
"""What a vendor does otherwise than its dialect says, and who says so. Only what the gateway acts on stands here."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """A row: `variable` is the environment variable that its SDK reads its key from; `hosts` are intercepted by default."""

    base_url: str | None                    # None: differs per customer, the rules must say it
    variable: str | None                    # None: it asks for no key
    dialect: str = "openai"
    authorisation: Authorisation = "bearer"
    hosts: tuple[str, ...] = ()
    quirks: frozenset[Quirk] = frozenset()


def _speaks_openai(base_url: str, variable: str, *quirks: Quirk, hosts: tuple[str, ...] = ()) -> Vendor:
    """Such a vendor. Without `hosts` the base URL's own."""
    return Vendor(base_url, variable, hosts=hosts or (base_url.split("/")[2],), quirks=frozenset(quirks))


def _local(port: int, *quirks: Quirk) -> Vendor:
    """A server that people run themselves, on the port that it takes by itself. It asks for a key only if it is told to."""
    return Vendor(f"http://127.0.0.1:{port}/v1", None, quirks=frozenset(quirks))


_ANTHROPIC: Final = Vendor(
    "https://api.anthropic.com", "ANTHROPIC_API_KEY", "anthropic", "x-api-key", ("api.anthropic.com",)
)

VENDORS: Final[Mapping[str, Vendor]] = {
    "openai": _speaks_openai("https://api.openai.com/v1", "OPENAI_API_KEY", "max_completion_tokens"),
    "anthropic": _ANTHROPIC,
    "claude": _ANTHROPIC,
    "azure": Vendor(
        None, "AZURE_OPENAI_API_KEY", "azure", "api-key",
        ("*.openai.azure.com", "*.services.ai.azure.com", "*.cognitiveservices.azure.com"),
    ),
    "gemini": Vendor(
        "https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY", "gemini", "x-goog-api-key",
        ("generativelanguage.googleapis.com",),
    ),
    # Express mode, whose keys need no project. Else: …/v1/projects/PROJECT/locations/REGION/publishers/google
    "vertex": Vendor(
        "https://aiplatform.googleapis.com/v1/publishers/google", "GOOGLE_API_KEY", "gemini", "x-goog-api-key",
        ("aiplatform.googleapis.com", "*-aiplatform.googleapis.com", "aiplatform.*.rep.googleapis.com"),
    ),
    # A region's; the key is a Bedrock API key.
    "bedrock": Vendor(
        None, "AWS_BEARER_TOKEN_BEDROCK", "bedrock", "bearer",
        ("bedrock-runtime.*.amazonaws.com", "bedrock-runtime-fips.*.amazonaws.com"),
    ),
    "groq": _speaks_openai(
        "https://api.groq.com/openai/v1", "GROQ_API_KEY", "no_logit_bias", "no_logprobs", "no_names", "one_choice"
    ),
    "cerebras": _speaks_openai("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", "no_responses"),
    "sambanova": _speaks_openai("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY", "no_responses"),
    "nvidia": _speaks_openai("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", "max_tokens", "no_responses"),
    "openrouter": _speaks_openai("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "mistral": _speaks_openai(
        "https://api.mistral.ai/v1", "MISTRAL_API_KEY", "max_tokens", "no_responses", "no_stream_options", "random_seed"
    ),
    "deepseek": _speaks_openai("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "max_tokens", "no_responses"),
    "xai": _speaks_openai("https://api.x.ai/v1", "XAI_API_KEY"),
    "together": _speaks_openai("https://api.together.xyz/v1", "TOGETHER_API_KEY", "no_responses"),
    "fireworks": _speaks_openai("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "perplexity": _speaks_openai("https://api.perplexity.ai", "PERPLEXITY_API_KEY", "no_responses"),
    "cohere": Vendor("https://api.cohere.com", "COHERE_API_KEY", "cohere", hosts=("api.cohere.com",)),
    "jina": _speaks_openai("https://api.jina.ai/v1", "JINA_API_KEY"),
    "voyage": _speaks_openai("https://api.voyageai.com/v1", "VOYAGE_API_KEY"),
    "elevenlabs": Vendor(
        "https://api.elevenlabs.io/v1", "ELEVENLABS_API_KEY", "elevenlabs", "xi-api-key", ("api.elevenlabs.io",)
    ),
    "deepgram": Vendor("https://api.deepgram.com/v1", "DEEPGRAM_API_KEY", "deepgram", "token", ("api.deepgram.com",)),
    "vllm": _local(8000),
    "ollama": _local(11434),
    "lmstudio": _local(1234),
    "llamacpp": _local(8080, "no_responses"),
    "simulator": Vendor(None, None, "simulator", "none"),
}  # fmt: skip

DIALECT_AUTHORISATION: Final[Mapping[str, Authorisation]] = {
    "openai": "bearer",
    "anthropic": "x-api-key",
    "azure": "api-key",
    "gemini": "x-goog-api-key",
    "bedrock": "bearer",
    "cohere": "bearer",
    "rerank": "bearer",
    "elevenlabs": "xi-api-key",
    "deepgram": "token",
    "simulator": "none",
}
"""How a dialect's servers are authorised where no vendor's row says otherwise. Its keys are the dialects that load."""

CREDENTIAL_HEADERS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "xi-api-key")
"""Where the vendors' own keys stand: what a client sends there is its credential."""

NEED_NO_URL: Final = frozenset(name for name, vendor in VENDORS.items() if vendor.base_url or vendor.dialect == "simulator")
"""Vendors whose address the table has, so that the rules need not say it."""

VENDOR_HOSTS: Final = tuple(sorted({host for vendor in VENDORS.values() for host in vendor.hosts}))
"""Every host that applications call a vendor at."""

SPARE_HOSTS: Final = tuple(host for host in VENDOR_HOSTS if "*" not in host.removeprefix("*."))
"""Those that a CA may sign for before any rules name them. A star inside a label would make that a whole cloud's domain."""

LOCAL: Final = frozenset(name for name, vendor in VENDORS.items() if vendor.variable is None and vendor.dialect == "openai")
"""Servers that people run themselves: which models they have, and how large their windows are, nobody else knows."""

_BY_HOST: Final = tuple((name, Globs.parse(vendor.hosts)) for name, vendor in VENDORS.items() if vendor.hosts)
# What Google's OAuth access tokens and Entra's (JSON web tokens) begin with, as no key of those vendors does.
_OAUTH: Final[Mapping[Authorisation, str]] = {"x-goog-api-key": "ya29.", "api-key": "eyJ"}


def credential_header(authorisation: Authorisation, secret: str) -> tuple[str, str] | None:
    """The header that authorises with this secret; None: no secret is sent.

    Google and Azure take an OAuth access token as well as a key, in another place: a token goes as a bearer's.
    """
    if authorisation == "none":
        return None
    prefix = _OAUTH.get(authorisation)
    if authorisation == "bearer" or (prefix is not None and secret.startswith(prefix)):
        return "authorization", f"Bearer {secret}"
    if authorisation == "token":
        return "authorization", f"Token {secret}"
    return authorisation, secret


def vendor_of(provider: str, dialect: str, host: str) -> str | None:
    """Which vendor a provider of the rules is: that of its name, of its address or, where one alone speaks it, its dialect."""
    if dialect == "simulator":
        return "simulator"
    if provider in VENDORS and provider != "simulator":
        return provider
    named = next((name for name, hosts in _BY_HOST if hosts.match(host) is not None), None)
    return named or (dialect if dialect != "openai" and dialect in VENDORS else None)
