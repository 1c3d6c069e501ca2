"""What is known of models: which a vendor offers, what they can do, how large their windows are and what they cost.

Names, prices and the vendors' own windows come from `genai-prices`, the rest from the table in `capabilities`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Final

from genai_prices import Usage
from genai_prices.data import providers as _priced
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from mitmgate.exchange import Target
from mitmgate.providers.capabilities import UNKNOWN, Traits, family_of, overridden, traits_of
from mitmgate.providers.vendors import LOCAL

# Our vendors' names where the package's differ.
_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "claude": "anthropic", "gemini": "google", "vertex": "google", "bedrock": "aws", "xai": "x-ai", "voyage": "voyageai",
        "simulator": "", "nvidia": "",
    }
)  # fmt: skip
# Who sells their own models, each with its whole window; others may sell less of it.
_MAKERS: Final = frozenset(
    {"openai", "azure", "anthropic", "claude", "gemini", "vertex", "mistral", "deepseek", "xai", "cohere", "perplexity"}
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
    """Tokens, by the exact name; None if the catalogue does not have it. `traits` knows more names, and takes longer."""
    listed = models_of(vendor).get(model) if model else None
    return _whole(vendor, listed, traits_of(family_of(vendor, model))) if model and listed is not None else None


@lru_cache(4096)
def traits(vendor: str | None, model: str) -> Traits:
    """What is known of a model at a vendor, also under a dated or an alternative name.

    `vendor`: as in the vendors' table; None: nobody of it, then what the name alone says.
    """
    known = traits_of(family_of(vendor, model))
    if vendor is None or vendor in LOCAL:
        return known
    listed = _listed(vendor, model)
    if listed is None and vendor == "azure":
        listed = _listed("openai", model)
    return known if listed is None else replace(known, context_window=_whole(vendor, listed, known))


def traits_at(target: Target, model: str | None) -> Traits:
    """What is known of what a target would be asked for; `model`: the client's, after aliases."""
    name = target.base_model or target.model or model
    known = traits(target.provider.vendor, name) if name else UNKNOWN
    if target.capabilities is None and target.reasoning is None and target.context_window in (None, known.context_window):
        return known
    return overridden(known, target.capabilities, target.reasoning, target.context_window)


def _listed(vendor: str, model: str) -> int | None:
    found = _found(vendor, model[:_LONGEST_NAME])
    return found.context_window if found is not None else None


def _whole(vendor: str, listed: int, known: Traits) -> int:
    """The list rounds, and grows old; a window that is thought too small refuses what would have fitted."""
    return max(listed, known.context_window or 0) if vendor in _MAKERS else listed


_LONGEST_NAME: Final = 200                  # of a model: a client's word may be any


Rate = Callable[[int, int], tuple[float, float, float]]
"""USD for tokens in and tokens out: for the first, for the second, and in all."""


def rate_of(vendor: str | None, model: str, at: float) -> Rate | None:
    """What the vendor asks for a model at that time, Unix seconds; None: not known.

    Without a vendor it is the price of whoever made the model.
    """
    found = _found(vendor, model)
    if found is None:
        return None
    # A list: prices that changed, or that change in the course of a day.
    prices = found.prices if isinstance(found.prices, ModelPrice) else found.get_prices(datetime.fromtimestamp(at, UTC))
    key = id(prices)                        # of the package's data, which lives as long as we do
    rate = _rates.get(key)
    if rate is None:
        rate = _rates[key] = _compiled(prices)
    return rate


_rates: Final[dict[int, Rate]] = {}


@lru_cache(4096)
def _found(vendor: str | None, model: str) -> ModelInfo | None:
    if vendor is None:
        lower = model.lower()
        makers = [each for each in _priced if each.model_match is not None and each.model_match.is_match(lower)]
        return makers[0].find_model(model) if makers else None
    name = _NAMES.get(vendor, vendor)
    provider = next((each for each in _priced if each.id == name), None)
    if provider is None:
        return None
    listed = (each for each in provider.models if each.id == model)     # some of its own ids are none that it finds
    return provider.find_model(model, all_providers=_priced) or next(listed, None)


def _compiled(prices: ModelPrice) -> Rate:
    """The package's own arithmetic takes 0.1 ms: a price that is the same for each token is asked for once."""

    def exact(given: int, answered: int) -> tuple[float, float, float]:
        cost = prices.calc_price(Usage(input_tokens=given, output_tokens=answered))
        return float(cost["input_price"]), float(cost["output_price"]), float(cost["total_price"])

    if any(isinstance(price, TieredPrices) for price in vars(prices).values()):
        return exact
    million = 1_000_000
    nothing, (into, _, _), (_, out, _) = exact(0, 0)[2], exact(million, 0), exact(0, million)

    def linear(given: int, answered: int) -> tuple[float, float, float]:
        cost_in, cost_out = given * into / million, answered * out / million
        return cost_in, cost_out, nothing + cost_in + cost_out

    return linear
