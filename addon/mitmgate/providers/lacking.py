"""What targets lack: a key of their provider, what is known of their model; and providers that no call can reach."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from genai_prices.data import providers as _priced
from genai_prices.types import Provider as PricedProvider

from mitmgate.addresses import HostPattern
from mitmgate.exchange import Provider
from mitmgate.providers.catalogue import models_of
from mitmgate.providers.credentials import key_sources
from mitmgate.rules import schema
from mitmgate.rules.remarks import Remark, targets

_MOST_CATALOGUES: Final = 2_000             # searched for one set of rules; a search for what is not in it takes 0.2 ms


def without_key(rules: schema.Rules, providers: Mapping[str, Provider]) -> Iterator[Remark]:
    """Providers that targets name and that have no key, in the environment that `providers` were compiled in."""
    used = {target.provider for _, target in targets(rules)}
    for name in used:
        rule, provider = rules.providers[name], providers[name]
        if rule.disabled:
            continue
        if not provider.active:
            message = f"no key in {key_sources(name, rule)}: its targets are skipped until there is one"
            yield Remark(("providers", name), message)
        elif provider.credential is not None and provider.credential.secret() is None:
            message = f"no key in {key_sources(name, rule)}: it is called without one until it is there"
            yield Remark(("providers", name), message)


def uncatalogued(rules: schema.Rules, providers: Mapping[str, Provider]) -> Iterator[Remark]:
    """The first target of each model of which neither the catalogue nor the rules know price or context window."""
    seen: set[tuple[str, str]] = set()
    left = _MOST_CATALOGUES
    for path, target in targets(rules):
        rule, provider = rules.providers[target.provider], providers[target.provider]
        model = target.base_model or rule.base_model or target.model
        if model is None or "$1" in model or provider.dialect == "simulator" or (target.provider, model) in seen:
            continue
        seen.add((target.provider, model))
        if model not in models_of(target.provider):
            left -= len(_sellers(target.provider))
        if left < 0:
            return
        if not (_described(rules.models.get(target.model or "")) or _catalogued(target.provider, model)):
            message = (
                "no catalogue knows the price or the context window of this model: write the `base_model` that it is, "
                "or `price` or `context_window` under `models` for it"
            )
            yield Remark((*path, "base_model" if target.base_model else "model"), message)


def _described(model: schema.Model | None) -> bool:
    return model is not None and not (model.price is None and model.context_window is None and model.capabilities is None)


@lru_cache(maxsize=1_000)
def _catalogued(name: str, model: str) -> bool:
    """Also under a dated or an alternative name. A provider of the operator's own name may sell any vendor's models."""
    return model in models_of(name) or any(each.find_model(model) is not None for each in _sellers(name))


@lru_cache(maxsize=1_000)
def _sellers(name: str) -> Sequence[PricedProvider]:
    known = models_of(name).keys()
    return [each for each in _priced if not known or known == {model.id for model in each.models}]


def unreached(
    rules: schema.Rules, providers: Mapping[str, Provider], built_in: frozenset[str], intercept: tuple[str, ...]
) -> Iterator[Remark]:
    """Providers that no target names and that nothing built in reaches either.

    `built_in`: what is built in for base_url calls; `intercept`: the hosts whose calls are governed: a provider among them
    gives their original destination its zone and region.
    """
    if built_in & {"provider", "catalogue"}:
        return
    used = {target.provider for _, target in targets(rules)}
    hosts = [HostPattern.parse(pattern) for pattern in intercept]
    for name, rule in rules.providers.items():
        origin = providers[name].origin
        if name in used or rule.disabled or any(host.matches(origin.host, origin.port) for host in hosts):
            continue
        yield Remark(("providers", name), "never used: no target names it, and no call can ask for it by name")
