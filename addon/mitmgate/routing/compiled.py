"""The rules' `routes:` and `models:` made ready for matching, and what the built-in order falls back to."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mitmgate.dialects.registry import SPEAKS_OPENAI
from mitmgate.exchange import Chosen, Deadlines, Provider, RetryRule, Target
from mitmgate.globs import Globs
from mitmgate.providers.catalogue import context_window, models_of
from mitmgate.routing.match import Asked, Match, Route, first_match
from mitmgate.rules import schema


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Everything that decides where a request goes, in DESIGN §4's order."""

    routes: tuple[Route, ...]
    models: Mapping[str, Route]                 # `models:` names
    providers: Mapping[str, Provider]
    warnings: tuple[str, ...] = ()
    offered: tuple[str, ...] = field(default=())  # what GET /v1/models lists

    def choose(self, asked: Asked, *, direct: bool) -> Chosen | None:
        """Operators' routes, then `models:` names; then, on base_url calls, `provider/model` and the catalogue."""
        if found := first_match(self.routes, asked):
            return _filled(*found)
        if asked.model is None:
            return None
        if named := self.models.get(asked.model):
            return _filled(named, "")
        return self._built_in(asked.model) if direct else None

    def _built_in(self, model: str) -> Chosen | None:
        name, slash, rest = model.partition("/")
        provider = self.providers.get(name)
        if slash and rest and provider is not None and provider.active:
            return self._alone(provider, rest)
        for provider in self.providers.values():
            if provider.active and provider.dialect in SPEAKS_OPENAI and model in models_of(provider.name):
                return self._alone(provider, model)
        return None

    def _alone(self, provider: Provider, model: str) -> Chosen:
        target = Target(provider, model, context_window=context_window(provider.name, model))
        return Chosen(f"provider/{provider.name}", None, (target,))


def _filled(route: Route, captured: str) -> Chosen:
    """The route with `$1` put into its targets' models."""
    if not route.captures:
        return route.chosen

    def filled(targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return tuple(
            replace(t, model=t.model.replace("$1", captured)) if t.model and "$1" in t.model else t for t in targets
        )

    return replace(route.chosen, targets=filled(route.chosen.targets), fallback=filled(route.chosen.fallback))


def compile_routes(rules: schema.Rules, providers: Mapping[str, Provider], where: Mapping[str, str]) -> RouteTable:
    """Raises ValueError naming every route that is left without an active target."""
    warnings: list[str] = []
    dead: list[str] = []

    def targets(given: Sequence[schema.Target], place: str) -> tuple[Target, ...]:
        live = []
        for rule in given:
            provider = providers[rule.provider]
            if not provider.active:
                warnings.append(f"{place}: the target {rule.provider} is skipped: it is disabled or its credential is not set")
                continue
            known = rules.models.get(rule.model or "")
            window = (known.context_window if known else None) or context_window(rule.provider, rule.base_model or rule.model)
            live.append(Target(provider, rule.model, rule.weight, rule.priority, window))
        return tuple(live)

    def compiled(name: str, place: str, rule: schema.Route | schema.Model, match: Match) -> Route:
        written = where.get(place)
        first, then = targets(rule.targets, written or place), targets(rule.fallback, written or place)
        if not first and not then:
            dead.append(f"{written or place}: {name} has no active target: its providers are disabled or lack their credential")
        chosen = Chosen(
            route=name,
            where=written,
            targets=first or then,
            by_path=match.path is not None,
            fallback=then if first else (),
            strategy=rule.strategy,
            retry=_retry(rule.retry),
            deadlines=_deadlines(rule.timeout),
            force=dict(rule.force) if isinstance(rule, schema.Route) else {},
            default=dict(rule.default) if isinstance(rule, schema.Route) else {},
        )
        return Route(match, chosen, any("$1" in (target.model or "") for target in (*first, *then)))

    routes = tuple(
        compiled(rule.name, f"routes[{position}]", rule, _match(rule.match)) for position, rule in enumerate(rules.routes)
    )
    models = {name: compiled(name, f"models.{name}", rule, Match()) for name, rule in rules.models.items()}
    if dead:
        raise ValueError("\n".join(dead))
    return RouteTable(routes, models, providers, tuple(warnings), _offered(routes, models))


def _match(rule: schema.Match) -> Match:
    return Match(
        host=Globs.parse(tuple(text.lower() for text in rule.host)) if rule.host else None,
        path=Globs.parse(rule.path) if rule.path else None,
        operation=frozenset(rule.operation or ()),
        model=Globs.parse(rule.model) if rule.model else None,
        header=tuple((name.lower(), Globs.parse(values)) for name, values in (rule.header or {}).items()),
        client=tuple(ipaddress.ip_network(text, strict=False) for text in rule.client or ()),
    )


def _retry(rule: schema.Retry) -> RetryRule:
    return RetryRule(rule.max, frozenset(str(each) for each in rule.on), rule.backoff.base, rule.backoff.max)


def _deadlines(rule: schema.Timeout) -> Deadlines:
    given = {
        name: value
        for name in ("connect", "first_token", "idle", "total", "duration")
        if isinstance(value := getattr(rule, name), int | float)
    }
    return Deadlines(**given)


def _offered(routes: tuple[Route, ...], models: Mapping[str, Route]) -> tuple[str, ...]:
    """`models:` names, literal models of routes, and for patterns the catalogue models of their targets' providers."""
    names = dict.fromkeys(models)
    for route in routes:
        globs = route.match.model
        names.update(dict.fromkeys(sorted(globs.literals) if globs else ()))
        if globs is not None and not globs.patterns:
            continue
        for target in (*route.chosen.targets, *route.chosen.fallback):
            known = models_of(target.provider.name if target.provider.dialect != "simulator" else "simulator")
            names.update(dict.fromkeys(m for m in known if globs is None or globs.match(m) is not None))
    return tuple(names)
