"""What can never match, since something that is asked earlier takes everything that it would.

Proved from the rules alone, and only what is certain is told: `implies` may say no where the answer is yes, never the
other way round. Two routes that take all of a third together are not seen.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from mitmgate.globs import Glob, Globs
from mitmgate.routing.match import UNKNOWN, Asked, Match, Network
from mitmgate.routing.table import Alias, Names, RouteTable
from mitmgate.rules import schema
from mitmgate.rules.positions import Path, dotted, shown
from mitmgate.rules.remarks import Remark, servings, targets

_EFFORT: Final = 100_000                    # comparisons of two short matches, some 2 µs each, for one set of rules
_STARS: Final = re.compile(r"\*+")
_NAMED: Final = ("model", "host", "path", "tenant", "task")


def implies(later: Match, earlier: Match) -> bool:
    """Whether every request that fits `later` surely fits `earlier`."""
    if earlier.operation and not (later.operation and later.operation <= earlier.operation):
        return False
    if not all(_inside(getattr(later, key), getattr(earlier, key)) for key in _NAMED):
        return False
    if not _projects(later, earlier):
        return False
    if not (_all_inside(later.header, earlier.header) and _all_inside(later.tag, earlier.tag)):
        return False
    if earlier.client and not (later.client and all(_within(each, earlier.client) for each in later.client)):
        return False
    if earlier.when is not None and (later.when is None or later.when.text != earlier.when.text):
        return False
    return earlier.exclude is None or _escapes(later, earlier.exclude)


def empty(match: Match) -> bool:
    """Whether surely no request fits: its own `not` takes out everything."""
    return match.exclude is not None and implies(match, match.exclude)


def shadowed(rules: schema.Rules, table: RouteTable) -> Iterator[Remark]:
    """Routes, aliases and models that are never reached. `table`: what `rules` compile to, whole."""
    search = _Search(rules, table)
    try:
        yield from search.routes()
        yield from search.models()
        yield from search.aliases()
    except _Enough:
        return


class _Enough(Exception):
    """So much was compared that the rest is left unproved: an answer within a second is worth more."""


class _Search:
    """One search of one set of rules, with a bound on what it costs."""

    def __init__(self, rules: schema.Rules, table: RouteTable) -> None:
        self._rules = rules
        self._table = table
        self._weights = [_weight(route.match) for route in table.routes]
        teams_names = {id(names): names for names in table.teams.values()}
        self._scoped = [alias for names in teams_names.values() for alias in names.aliases]
        self._renames = [alias for alias in table.aliases if not alias.match.keys]
        self._left = _EFFORT

    def routes(self) -> Iterator[Remark]:
        """Those that no request reaches, or fits."""
        paths = [path for path, serving in servings(self._rules) if isinstance(serving, schema.Route)]
        for position, route in enumerate(self._table.routes):
            path, match = paths[position], route.match
            if match.exclude is not None:
                self._spend(self._weights[position] ** 2)
            if empty(match):
                message = "leaves nothing to match: it excludes every request that the other keys take"
                yield Remark((*path, "match", "not"), message)
            elif _out_of_scope(match):
                yield Remark((*path, "match", "project"), "never matches: the team's scope has no such project")
            elif (renamed := self._always_renamed(match)) is not None:
                message = f"never matches: {renamed} renames every model that it names"
                yield Remark((*path, "match", "model"), message)
            elif (earlier := self._earlier(match, position)) is not None:
                yield Remark(path, f"never matches: the earlier {earlier} takes every request that it would")

    def models(self) -> Iterator[Remark]:
        """Names under `models` that nobody gets by asking for them."""
        # A name that is used otherwise does its work: what is known of a target's model, where spent budgets lead.
        used = {target.model for _, target in targets(self._rules)}
        used |= {each.when_spent.route_to for each in self._rules.budgets if isinstance(each.when_spent, schema.RouteTo)}
        yield from self._models(self._table.models.keys() - used, Names())
        for team, rules in self._rules.teams.items():
            yield from self._models(rules.models.keys(), self._names(rules), team, Globs.parse(rules.scope.project))

    def _models(self, models: Collection[str], names: Names, team: str = "", scope: Globs | None = None) -> Iterator[Remark]:
        """Of the main rules, or of the team whose `names` these are; its aliases that lead to such a model, too."""
        built_in = self._table.built_in_direct | self._table.built_in_proxied
        prefix: Path = ("teams", team) if team else ()
        for name in models:
            path, match = (*prefix, "models", name), Match(model=Globs(frozenset({name}), ()), scope=scope)
            if "models" not in built_in:
                yield Remark(path, "never chosen: `builtin_routes` leaves `models` out")
            elif (renamed := self._always_renamed(match, names, prefix)) is not None:
                yield Remark(path, f"never chosen by its name: {renamed} renames it")
            elif (route := self._earlier(match, len(self._table.routes))) is not None:
                yield Remark(path, f"never chosen by its name: the {route} takes every call for it")
                for alias in names.aliases:
                    if alias.model == name:
                        message = f"never leads to the team's model of this name: the {route} takes every call for it"
                        yield Remark((*prefix, "aliases", str(alias.pattern)), message)

    def aliases(self) -> Iterator[Remark]:
        """Those whose every model an earlier one renames. Those without a star are tried first."""
        yield from self._behind(self._table.aliases, ("aliases",))
        for name, team in self._rules.teams.items():
            yield from self._behind(self._names(team).aliases, ("teams", name, "aliases"))

    def _names(self, team: schema.Team) -> Names:
        return next((self._table.teams[each] for each in team.scope.project if each in self._table.teams), Names())

    def _behind(self, aliases: Sequence[Alias], path: Path) -> Iterator[Remark]:
        weights = [_weight(alias.match) + len(str(alias.pattern)) for alias in aliases]
        for position, alias in enumerate(aliases):
            for earlier, weight in zip(aliases[:position], weights, strict=False):
                self._spend(weights[position] * weight)
                if _inside(alias.pattern, earlier.pattern) and implies(alias.match, earlier.match):
                    there = f"{dotted((*path, str(earlier.pattern)))} ({earlier.where})"
                    message = f"never used: the earlier {there} renames every model that it would"
                    yield Remark((*path, str(alias.pattern)), message)
                    break

    def _earlier(self, match: Match, position: int) -> str | None:
        """The first route before `position` that takes all that `match` does: it takes an example of it too."""
        weight = _weight(match)
        for earlier in self._table.index.candidates(_example(match)):
            if earlier >= position:
                return None
            self._spend(weight * self._weights[earlier])
            route = self._table.routes[earlier]
            if implies(match, route.match):
                return f"route `{shown(route.chosen.route)}` ({route.chosen.where})"
        return None

    def _always_renamed(self, match: Match, names: Names | None = None, prefix: Path = ()) -> str | None:
        """An alias, where aliases rename every model that `match` names to one that it does not.

        `names` are those of the team at `prefix`, where `match` is about its calls alone: its aliases count too.
        """
        own = [alias for alias in names.aliases if not alias.match.keys] if names is not None else []
        if match.model is None or not (own or self._renames):
            return None
        others = (*self._table.aliases, *self._scoped)
        self._spend(len(others) * (_weight(match) + 32))
        if any(match.model.match(alias.model) is not None for alias in others):
            return None
        last: Alias | None = None
        for glob in (*map(Glob.parse, match.model.literals), *match.model.patterns):
            last = next((each for each in (*own, *self._renames) if _covered(glob, each.pattern)), None)
            if last is None:
                return None
        return _at(last, prefix if last in own else ()) if last is not None else None

    def _spend(self, cost: int) -> None:
        self._left -= 1 + (cost >> 5)
        if self._left < 0:
            raise _Enough


def _weight(match: Match) -> int:
    """What comparing it costs, roughly: the length of its patterns and the number of its names."""
    globs = [getattr(match, key) for key in (*_NAMED, "project", "scope")]
    globs += [each for _, each in (*match.header, *match.tag)]
    own = sum(len(each.literals) + sum(len(glob.text) for glob in each.patterns) for each in globs if each is not None)
    return 1 + own + len(match.client) + (_weight(match.exclude) if match.exclude is not None else 0)


def _example(match: Match) -> Asked:
    """A request that fits every key by which routes are indexed."""
    return Asked(
        host=_any(match.host) or "",
        path=_any(match.path) or "",
        operation=min(match.operation, default=""),
        model=_any(match.model),
        headers={name: _any(globs) or "" for name, globs in match.header},
        client="",
        project=_project(match),
        tenant=_any(match.tenant),
        task=_any(match.task),
        tags={name: _any(globs) or "" for name, globs in match.tag},
    )


def _project(match: Match) -> str:
    if match.project is not None and match.scope is not None:
        both = [name for name in sorted(match.scope.literals) if match.project.match(name) is not None]
        return both[0] if both else ""
    return _any(match.project) or _any(match.scope) or UNKNOWN


def _any(globs: Globs | None) -> str | None:
    if globs is None:
        return None
    return min(globs.literals) if globs.literals else globs.patterns[0].text.replace("*", "")


def _at(alias: Alias, prefix: Path) -> str:
    return f"{dotted((*prefix, 'aliases', str(alias.pattern)))} ({alias.where})"


def _out_of_scope(match: Match) -> bool:
    """A team's route that is about projects none of which is the team's."""
    if match.scope is None or match.project is None or match.scope.patterns:
        return False
    return not any(match.project.match(name) is not None for name in match.scope.literals)


def _projects(later: Match, earlier: Match) -> bool:
    """`project` and a team's scope are about the same field: both hold of `later`, so either may prove it."""
    narrow = (later.project, later.scope)
    return all(
        wide is None or any(each is not None and _inside(each, wide) for each in narrow)
        for wide in (earlier.project, earlier.scope)
    )


def _escapes(match: Match, exclude: Match) -> bool:
    """Whether a request that fits `match` is surely none of those that `exclude` takes out."""
    if match.exclude is not None and implies(exclude, match.exclude):
        return True                         # what `exclude` takes out, `match` takes out itself
    if exclude.operation and match.operation and not exclude.operation & match.operation:
        return True
    pairs = [(getattr(match, key), getattr(exclude, key)) for key in (*_NAMED, "project")]
    pairs += [(globs, dict(exclude.header).get(name)) for name, globs in match.header]
    pairs += [(globs, dict(exclude.tag).get(name)) for name, globs in match.tag]
    return any(ours is not None and theirs is not None and _apart(ours, theirs) for ours, theirs in pairs)


def _apart(first: Globs, second: Globs) -> bool:
    """Whether surely no text fits both. Only lists of names are compared with patterns, not patterns with patterns."""
    if not first.patterns:
        return not any(second.match(name) is not None for name in first.literals)
    return not second.patterns and not any(first.match(name) is not None for name in second.literals)


def _all_inside(later: tuple[tuple[str, Globs], ...], earlier: tuple[tuple[str, Globs], ...]) -> bool:
    narrow = dict(later)
    return all(_inside(narrow.get(name), wide) for name, wide in earlier)


def _inside(narrow: Globs | None, wide: Globs | None) -> bool:
    """Whether every text that `narrow` matches is matched by `wide`; None: the key is not given."""
    if wide is None:
        return True
    if narrow is None:
        return False
    return all(wide.match(name) is not None for name in narrow.literals) and all(_covered(g, wide) for g in narrow.patterns)


def _covered(narrow: Glob, wide: Globs) -> bool:
    if narrow.literal:
        return wide.match(narrow.text) is not None
    return any(wider(glob.text, narrow.text) for glob in wide.patterns)


def wider(wide: str, narrow: str) -> bool:
    """Whether every text that the glob `narrow` matches is matched by the glob `wide`.

    `narrow` is read as a text in which a `*` is taken by a `*` alone, and a `?` by `*` or `?`: what stands for them is then
    taken in the same way. Exact but for globs such as `*?` and `?*`, which mean the same.
    """
    wide = _STARS.sub("*", wide)
    at: dict[str, int] = {}                 # bit n: the character stands at position n of `wide`
    for position, character in enumerate(wide):
        at[character] = at.get(character, 0) | 1 << position
    stars, any_one = at.pop("*", 0), at.get("?", 0)
    reached = 1                             # bit n: what was read of `narrow` may end before position n of `wide`
    for character in narrow:
        reached |= (reached & stars) << 1   # a star may stand for nothing
        one = at.get(character, 0) | (any_one if character != "*" else 0)
        reached = (reached & stars) | (reached & one) << 1
        if not reached:
            return False
    reached |= (reached & stars) << 1
    return bool(reached >> len(wide) & 1)


def _within(network: Network, wide: tuple[Network, ...]) -> bool:
    """Whether one of `wide` holds all addresses of `network`. A mapped IPv6 network matches nothing: its addresses are IPv4."""
    for each in wide:
        if isinstance(network, IPv4Network) and isinstance(each, IPv4Network) and network.subnet_of(each):
            return True
        if isinstance(network, IPv6Network) and isinstance(each, IPv6Network) and network.subnet_of(each):
            return True
    return False
