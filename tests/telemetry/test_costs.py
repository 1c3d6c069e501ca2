"""What an exchange costs: whose price holds, and that the short arithmetic is the price list's own."""

import datetime

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data import providers as listed
from test_records import RECORD

from mitmgate.providers.catalogue import rate_of
from mitmgate.record import Billing
from mitmgate.telemetry.costs import MOST_TOKENS, cost_of

OPENAI = Billing("openai", "openai", "api.openai.com", ("gpt-4o-mini",))
NOON = datetime.datetime(2026, 3, 4, 12, tzinfo=datetime.UTC)


def priced(
    billing: Billing | None, given: int | None = 1_000_000, answered: int | None = 1_000_000
) -> tuple[float, ...] | None:
    record = RECORD._replace(at=NOON.timestamp(), billing=billing, tokens_input=given, tokens_output=answered)
    cost = cost_of(record)
    return None if cost is None else (cost.input, cost.output, cost.total)


def list_price(vendor: str, model: str) -> tuple[float, float, float]:
    found = calc_price(Usage(input_tokens=10**6, output_tokens=10**6), model, provider_id=vendor, genai_request_timestamp=NOON)
    return float(found.input_price), float(found.output_price), float(found.total_price)


def test_the_rules_price_comes_first() -> None:
    assert priced(OPENAI._replace(price=(0.15, 0.6))) == (0.15, 0.6, 0.75)
    assert priced(OPENAI._replace(price=(0.0, 0.0), base_model="gpt-4o")) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("billing", "expected"),
    [
        (OPENAI, ("openai", "gpt-4o-mini")),
        (OPENAI._replace(models=("gpt-4o-mini-2024-07-18",)), ("openai", "gpt-4o-mini")),
        (OPENAI._replace(provider="eu"), ("openai", "gpt-4o-mini")),
        (OPENAI._replace(provider="api.openai.com"), ("openai", "gpt-4o-mini")),
        (Billing("azure-eu", "azure", "x.openai.azure.com", ("prod-4o", "gpt-4o-2024-08-06")), ("azure", "gpt-4o")),
        (Billing("azure-eu", "azure", "llm.corp", ("prod-4o",), "gpt-4o"), ("azure", "gpt-4o")),
        (Billing("claude", "anthropic", "api.anthropic.com", ("claude-haiku-4-5",)), ("anthropic", "claude-haiku-4-5")),
        (Billing("local", "openai", "10.0.0.7", ("anything",), "gpt-4o"), ("openai", "gpt-4o")),
    ],
    ids=lambda value: value.provider if isinstance(value, Billing) else None,
)
def test_whose_list_price(billing: Billing, expected: tuple[str, str]) -> None:
    found = priced(billing)
    assert found is not None
    assert found == pytest.approx(list_price(*expected))
    assert found[0] > 0


@pytest.mark.parametrize(
    "billing",
    [
        None,
        OPENAI._replace(models=("no-such-model",)),
        OPENAI._replace(models=()),
        Billing("local", "openai", "10.0.0.7", ("gpt-4o",)),
        Billing("openai", "simulator", "127.0.0.1", ("gpt-4o",)),
        Billing("local", "openai", "10.0.0.7", ("gpt-4o",), "no-such-model"),
    ],
)
def test_what_has_no_price(billing: Billing | None) -> None:
    """A server of one's own and the simulator cost what the rules say, and nothing else, whatever their models are called."""
    assert priced(billing) is None


def test_tokens_that_nobody_counted() -> None:
    whole = priced(OPENAI)
    assert whole is not None
    assert priced(OPENAI, None, None) is None
    assert priced(OPENAI, 10**6, None) == (whole[0], 0.0, whole[0])
    assert priced(OPENAI, -1, MOST_TOKENS + 1) is None
    assert priced(OPENAI, 10**400, 10**6) == (0.0, whole[1], whole[1])
    assert priced(OPENAI, 0, 0) == (0.0, 0.0, 0.0)


def test_the_short_arithmetic_is_the_price_lists_own() -> None:
    """For models of each vendor, below and above the sizes at which prices step."""
    compared = 0
    for vendor, model in ((each, model) for each in listed for model in each.models[:30]):
        rate = rate_of(vendor.id, model.id, NOON.timestamp())
        assert rate is not None, model.id
        for given, answered in ((1_000, 100), (300_000, 5)):
            usage = Usage(input_tokens=given, output_tokens=answered)
            try:
                found = calc_price(usage, model.id, provider_id=vendor.id, genai_request_timestamp=NOON)
            except LookupError:             # an id that the package does not find among its own
                continue
            total = rate(given, answered)
            assert total == pytest.approx((float(found.input_price), float(found.output_price), float(found.total_price)))
            compared += 1
    assert compared > 500


def test_a_price_that_changed_is_the_one_of_its_time() -> None:
    def told(vendor: str, model: str, at: datetime.datetime) -> tuple[float, float, float]:
        rate = rate_of(vendor, model, at.timestamp())
        assert rate is not None
        return rate(10**6, 10**6)

    changed = [(each.id, model.id) for each in listed for model in each.models if isinstance(model.prices, list)]
    times = [NOON - datetime.timedelta(days=days, hours=hours) for days in range(0, 1_000, 100) for hours in (0, 9, 16)]
    assert any(len({told(*names, at) for at in times}) > 1 for names in changed)


def test_a_price_is_looked_up_once() -> None:
    """The list's own arithmetic is too slow for every exchange."""
    first = rate_of("openai", "gpt-4o-mini", NOON.timestamp())
    assert first is rate_of("openai", "gpt-4o-mini-2024-07-18", NOON.timestamp() + 5)
