"""What an exchange cost, in USD: the rules' own price, else the catalogue's for the provider and the model.

Worked out where records are written, not where requests are served. The first exchange of a model looks its price up
(about a millisecond); after that it is two multiplications, unless the price depends on the size of the request.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from mitmgate.providers.catalogue import Rate, rate_of
from mitmgate.providers.vendors import vendor_of
from mitmgate.record import Billing, Record

MOST_TOKENS: Final = 2**40          # what a provider claims beyond this is not a count
_MILLION: Final = 1_000_000
_QUARTER: Final = 900               # seconds: prices change at most on the quarters of an hour


@dataclass(frozen=True, slots=True)
class Cost:
    """USD. `total` holds what is asked per call, too, where a provider asks for that."""

    input: float
    output: float
    total: float


def cost_of(record: Record) -> Cost | None:
    """None: nobody counted tokens, or no price is known. Tokens of one side that were not counted cost nothing."""
    billing = record.billing
    given, answered = _counted(record.tokens_input), _counted(record.tokens_output)
    if billing is None or (given is None and answered is None):
        return None
    rate = _rate(billing, record.at // _QUARTER)
    if rate is None:
        return None
    into, out, total = rate(given or 0, answered or 0)
    return Cost(_dollars(into), _dollars(out), _dollars(total))


def _counted(tokens: int | None) -> int | None:
    return tokens if tokens is not None and 0 <= tokens <= MOST_TOKENS else None


def _dollars(amount: float) -> float:
    """To a billionth of a cent: what lies below is the arithmetic's, not the price's."""
    return round(amount, 11)


@lru_cache(4096)
def _rate(billing: Billing, quarter: float) -> Rate | None:
    at = quarter * _QUARTER
    if billing.price is not None:
        return _linear(*billing.price)
    vendor = vendor_of(billing.provider, billing.dialect, billing.host)
    if vendor == "simulator":
        vendor = None                       # its answers are free, unless the rules say whose they stand for
    # What the operators call it is a price's name wherever it runs; what a client or a provider calls it only at a vendor.
    found = rate_of(vendor, billing.base_model, at) if billing.base_model is not None else None
    if found is None and vendor is not None:
        found = next((rate for model in billing.models if (rate := rate_of(vendor, model, at)) is not None), None)
    return found


def _linear(per_input: float, per_output: float) -> Callable[[int, int], tuple[float, float, float]]:
    def rate(given: int, answered: int) -> tuple[float, float, float]:
        into, out = given * per_input / _MILLION, answered * per_output / _MILLION
        return into, out, into + out

    return rate
