"""Everything that decides where a request goes, compiled, in DESIGN §4's order:

    operators' routes, then teams'      the first whose `match:` holds
    models                              a name under `models:`, a team's own first
    provider                            `provider/model`, on base_url calls
    auto                                `model: auto`: all models of `models:` in turn
    (original                           an intercepted call's own destination: `stages.match_route`)
    catalogue                           a provider whose catalogue has the model, on base_url calls
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mitmgate.exchange import Chosen, Constraint, Origin, Provider, Target
from mitmgate.globs import Globs
from mitmgate.providers.catalogue import context_window, models_of
from mitmgate.routing.constraints import Policy
from mitmgate.routing.index import Index
from mitmgate.routing.match import Asked, Match

BUILT_IN = ("models", "provider", "auto", "original", "catalogue")
"""What `builtin_routes:` may list, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Route:
    """A rule, compiled. Also what `models:` names become."""

    match: Match
    chosen: Chosen                          # what it chooses, `$1` not yet filled in
    captures: bool = False                  # a target's model holds `$1`

    def filled(self, asked: Asked) -> Chosen:
        """What it chooses, with `$1` put into its targets' models."""
        if not self.captures:
            return self.chosen
        captured = self.match.captured(asked)

        def put(targets: tuple[Target, ...]) -> tuple[Target, ...]:
            return tuple(
                replace(t, model=t.model.replace("$1", captured)) if t.model and "$1" in t.model else t for t in targets
            )

        return replace(self.chosen, targets=put(self.chosen.targets), fallback=put(self.chosen.fallback))


@dataclass(frozen=True, slots=True)
class Alias:
    """One of `aliases:`: a request for a model that fits asks for `model` instead."""

    pattern: Globs
    model: str
    match: Match = Match()
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """Models and aliases that hold everywhere, or inside one team's scope."""

    models: Mapping[str, Route] = field(default_factory=dict)
    aliases: tuple[Alias, ...] = ()         # those without a star first
    offered: tuple[str, ...] = ()           # what GET /v1/models lists beside what everybody is offered


@dataclass(frozen=True, slots=True)
class RouteTable:
    """See the module. Immutable; `offered` is what GET /v1/models lists for everybody."""

    routes: tuple[Route, ...]
    models: Mapping[str, Route]             # `models:` names, not those of teams
    providers: Mapping[str, Provider]
    warnings: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()
    aliases: tuple[Alias, ...] = ()
    teams: Mapping[str, Names] = field(default_factory=dict)    # by project
    policies: tuple[Policy, ...] = ()
    auto: Chosen | None = None
    built_in_direct: frozenset[str] = frozenset(BUILT_IN)       # on base_url calls
    built_in_proxied: frozenset[str] = frozenset(BUILT_IN)
    index: Index = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", Index([route.match for route in self.routes]))

    def alias(self, asked: Asked) -> Alias | None:
        """The alias that applies to the model that the client names, if one does. Aliases are not chained."""
        if asked.model is None:
            return None
        scoped = self.teams.get(asked.project)
        for each in (*(scoped.aliases if scoped else ()), *self.aliases):
            if each.pattern.match(asked.model) is not None and each.match(asked) is not None:
                return each
        return None

    def choose(self, asked: Asked, *, direct: bool, names_auto: bool = True) -> Chosen | None:
        """What serves this request; None: no rule and nothing that is built in but the original destination.

        `names_auto`: `asked.model` is the client's own word, and not what stands for none.
        """
        for position in self.index.candidates(asked):
            route = self.routes[position]
            if route.match(asked) is not None:
                return route.filled(asked)
        return self.built_in(asked, direct=direct, names_auto=names_auto)

    def built_in(self, asked: Asked, *, direct: bool, names_auto: bool) -> Chosen | None:
        """What serves a request that no route serves."""
        allowed = self.built_in_direct if direct else self.built_in_proxied
        model = asked.model
        if model is None:
            return None
        if "models" in allowed and (named := self._model(model, asked.project)):
            return named.chosen
        if direct and "provider" in allowed and (found := self._named_provider(model)):
            return found
        if model == "auto" and "auto" in allowed and (direct or names_auto):
            return self.auto
        return self._catalogued(model) if direct and "catalogue" in allowed else None

    def offered_to(self, project: str) -> tuple[str, ...]:
        """What GET /v1/models lists for a call of this project: its team's models too."""
        scoped = self.teams.get(project)
        return tuple(dict.fromkeys((*self.offered, *scoped.offered))) if scoped else self.offered

    def known_at(self, origin: Origin, path: str) -> tuple[Provider, ...]:
        """The providers of the rules that an original destination may be, so that policies know its zone and region.

        The one whose address it is; else all on that host: another port or scheme does not make it somebody else.
        """
        here = [each for each in self.providers.values() if each.origin.host == origin.host]
        named = [each for each in here if each.origin == origin and f"{path}/".startswith(f"{each.base_path}/")]
        longest = max((len(each.base_path) for each in named), default=0)
        return tuple(each for each in named if len(each.base_path) == longest) or tuple(here)

    def constraints(self, asked: Asked) -> tuple[Constraint, ...]:
        """What policies and the project demand of this request's targets."""
        return tuple(policy.constraint for policy in self.policies if policy.applies(asked))

    def _model(self, model: str, project: str) -> Route | None:
        scoped = self.teams.get(project)
        return (scoped.models.get(model) if scoped else None) or self.models.get(model)

    def _named_provider(self, model: str) -> Chosen | None:
        name, slash, rest = model.partition("/")
        provider = self.providers.get(name)
        return _alone(provider, rest) if slash and rest and provider is not None and provider.active else None

    def _catalogued(self, model: str) -> Chosen | None:
        for provider in self.providers.values():
            if provider.active and model in models_of(provider.name):
                return _alone(provider, model)
        return None


def _alone(provider: Provider, model: str) -> Chosen:
    base = provider.base_model
    target = Target(provider, model, context_window=context_window(provider.name, base or model), base_model=base)
    return Chosen(f"provider/{provider.name}", None, (target,))


def every_model_in_turn(models: Iterable[Route]) -> Chosen | None:
    """`model: auto`: the first choice of each of `models:` in turn; None: the rules name none."""
    firsts = [route.chosen.targets[0] for route in models if route.chosen.targets and not route.captures]
    targets = {target.key: target for target in firsts if target.model}
    return Chosen("auto", None, tuple(targets.values()), strategy="round-robin") if targets else None
