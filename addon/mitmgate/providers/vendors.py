"""Vendors as a table: where each is, how it is authorised, what wire format it speaks, which hosts applications call.

A vendor that speaks OpenAI's format is one row. Sources: each vendor's API reference, "base URL" and "authentication".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Authorisation = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "none"]


@dataclass(frozen=True, slots=True)
class Vendor:
    """A row: `variable` is the environment variable that its SDK reads its key from; `hosts` are intercepted by default."""

    base_url: str | None                    # None: differs per customer, the rules must say it
    variable: str | None
    dialect: str = "openai"
    authorisation: Authorisation = "bearer"
    hosts: tuple[str, ...] = ()


VENDORS: Final[Mapping[str, Vendor]] = {
    "openai": Vendor("https://api.openai.com/v1", "OPENAI_API_KEY", hosts=("api.openai.com",)),
    "anthropic": Vendor("https://api.anthropic.com", "ANTHROPIC_API_KEY", "anthropic", "x-api-key", ("api.anthropic.com",)),
    "claude": Vendor("https://api.anthropic.com", "ANTHROPIC_API_KEY", "anthropic", "x-api-key", ("api.anthropic.com",)),
    "azure": Vendor(None, "AZURE_OPENAI_API_KEY", "azure", "api-key", ("*.openai.azure.com",)),
    "gemini": Vendor(
        "https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY", "gemini", "x-goog-api-key",
        ("generativelanguage.googleapis.com",),
    ),
    "groq": Vendor("https://api.groq.com/openai/v1", "GROQ_API_KEY", hosts=("api.groq.com",)),
    "cerebras": Vendor("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", hosts=("api.cerebras.ai",)),
    "sambanova": Vendor("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY", hosts=("api.sambanova.ai",)),
    "nvidia": Vendor("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", hosts=("integrate.api.nvidia.com",)),
    "openrouter": Vendor("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", hosts=("openrouter.ai",)),
    "mistral": Vendor("https://api.mistral.ai/v1", "MISTRAL_API_KEY", hosts=("api.mistral.ai",)),
    "deepseek": Vendor("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", hosts=("api.deepseek.com",)),
    "xai": Vendor("https://api.x.ai/v1", "XAI_API_KEY", hosts=("api.x.ai",)),
    "together": Vendor("https://api.together.xyz/v1", "TOGETHER_API_KEY", hosts=("api.together.xyz",)),
    "fireworks": Vendor("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", hosts=("api.fireworks.ai",)),
    "perplexity": Vendor("https://api.perplexity.ai", "PERPLEXITY_API_KEY", hosts=("api.perplexity.ai",)),
    "cohere": Vendor("https://api.cohere.com", "COHERE_API_KEY", "cohere", hosts=("api.cohere.com",)),
    "simulator": Vendor(None, None, "simulator", "none"),
}

DIALECT_AUTHORISATION: Final[Mapping[str, Authorisation]] = {
    "openai": "bearer",
    "anthropic": "x-api-key",
    "azure": "api-key",
    "gemini": "x-goog-api-key",
    "cohere": "bearer",
    "simulator": "none",
}
"""How a dialect's servers are authorised where no vendor's row says otherwise. Its keys are the dialects that load."""

NEED_NO_URL: Final = frozenset(name for name, vendor in VENDORS.items() if vendor.base_url or vendor.dialect == "simulator")
"""Vendors whose address the table has, so that the rules need not say it."""

VENDOR_HOSTS: Final = tuple(sorted({host for vendor in VENDORS.values() for host in vendor.hosts}))
"""Every host that applications call a vendor at."""
