"""What is known of models: which a vendor offers, how large their windows are and what they cost (data: `genai-prices`)."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Final

from genai_prices import Usage
from genai_prices.data import providers as _priced
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

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
