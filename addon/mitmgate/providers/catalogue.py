"""What is known of models: which a vendor offers and how large their windows are (data: the `genai-prices` package)."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from genai_prices.data import providers as _priced

# Our vendors' names where the package's differ.
_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"claude": "anthropic", "gemini": "google", "xai": "x-ai", "simulator": "", "nvidia": ""}
)

SIMULATED: Final = ("sim-1", "sim-embedding-1")
"""The models that the simulator lists."""


@cache
def models_of(vendor: str) -> Mapping[str, int | None]:
    """The vendor's models, each with its context window in tokens if it is known. Empty for an unknown vendor."""
    if vendor == "simulator":
        return MappingProxyType(dict.fromkeys(SIMULATED))
    name = _NAMES.get(vendor, vendor)
    for provider in _priced:
        if provider.id == name:
            return MappingProxyType({model.id: model.context_window for model in provider.models})
    return MappingProxyType({})


def context_window(vendor: str, model: str | None) -> int | None:
    """Tokens; None if the catalogue does not know the model."""
    return models_of(vendor).get(model) if model else None
