"""What is said of rules that are valid and likely to be a mistake, and the walks that several such looks share."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from mitmgate.rules import schema
from mitmgate.rules.positions import Path

_LISTS: Final = ("targets", "fallback")


class Remark(NamedTuple):
    """A message about the key or list item that `path` names. It repeats no value, which may be the environment's."""

    path: Path
    message: str


def servings(rules: schema.Rules) -> Iterator[tuple[Path, schema.Route | schema.Model]]:
    """Every route and model, teams' too."""
    yield from _servings((), rules)
    for name, team in rules.teams.items():
        yield from _servings(("teams", name), team)


def _servings(prefix: Path, owner: schema.Rules | schema.Team) -> Iterator[tuple[Path, schema.Route | schema.Model]]:
    for index, route in enumerate(owner.routes):
        yield (*prefix, "routes", index), route
    for name, model in owner.models.items():
        yield (*prefix, "models", name), model


def served_by(path: Path, serving: schema.Serving) -> Iterator[tuple[Path, schema.Target]]:
    """The targets that a call may go to, in the order in which they are written."""
    for key in _LISTS:
        yield from (((*path, key, index), target) for index, target in enumerate(getattr(serving, key)))


def targets(rules: schema.Rules) -> Iterator[tuple[Path, schema.Target]]:
    """Every target that the rules name, wherever."""
    for path, serving in servings(rules):
        yield from served_by(path, serving)
        for key in ("hedge", "shadow", "canary"):
            beside = getattr(serving, key)
            if beside is not None:
                yield from (((*path, key, "targets", index), each) for index, each in enumerate(beside.targets))
    if rules.vision is not None:
        yield ("vision", "describe_with"), rules.vision.describe_with


def matches(rules: schema.Rules) -> Iterator[tuple[Path, schema.MatchKeys]]:
    """Every `match` and `not`."""
    owners: list[tuple[Path, schema.Route | schema.Policy | schema.Alias]] = [
        *((path, each) for path, each in servings(rules) if isinstance(each, schema.Route)),
        *((("policies", index), policy) for index, policy in enumerate(rules.policies)),
        *((("aliases", pattern), alias) for pattern, alias in rules.aliases.items()),
    ]
    for name, team in rules.teams.items():
        owners += ((("teams", name, "aliases", pattern), alias) for pattern, alias in team.aliases.items())
    for path, owner in owners:
        yield (*path, "match"), owner.match
        if owner.match.exclude is not None:
            yield (*path, "match", "not"), owner.match.exclude
