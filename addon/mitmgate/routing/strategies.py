"""In which order a route's targets are tried. A strategy is one pure function; adding one is adding a row to `STRATEGIES`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mitmgate.exchange import Target

Health = Mapping[str, float]
"""By `Target.key`: 1 is well, 0 is out. A target that is not named is well."""


@dataclass(frozen=True, slots=True)
class Dice:
    """What a strategy may draw on: `draw` in [0, 1) for a target, and `turn`, how often this route was taken before.

    `sticky`: the draws belong to the caller, not to chance, and decide alone.
    """

    draw: Callable[[Target], float]
    turn: int
    sticky: bool = False


Strategy = Callable[[Sequence[Target], Health, Dice], tuple[Target, ...]]


def as_listed(targets: Sequence[Target], health: Health, dice: Dice) -> tuple[Target, ...]:
    """`fallback`: the order of the rules."""
    return tuple(targets)


def weighted(targets: Sequence[Target], health: Health, dice: Dice) -> tuple[Target, ...]:
    """`weighted`: a draw without replacement, each first with probability weight / sum (Efraimidis and Spirakis, 2006).

    A target of weight 0 takes no traffic of its own and is only fallen back to.
    """
    def key(target: Target) -> float:
        return -math.log(1.0 - dice.draw(target)) / target.weight if target.weight > 0 else math.inf

    drawn = [(key(target), position) for position, target in enumerate(targets)]
    return tuple(targets[position] for _, position in sorted(drawn))


def round_robin(targets: Sequence[Target], health: Health, dice: Dice) -> tuple[Target, ...]:
    """`round-robin`: each turn begins one further, the rest follow in order; who is sticky has a beginning of his own."""
    if dice.sticky:
        return tuple(sorted(targets, key=dice.draw))
    start = dice.turn % len(targets)
    return (*targets[start:], *targets[:start])


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "fallback": as_listed,
    "weighted": weighted,
    "round-robin": round_robin,
}


def order(name: str, targets: Sequence[Target], health: Health, dice: Dice) -> tuple[Target, ...]:
    """The targets by strategy `name` within each priority; those of a lower number stand before those of a higher one.

    A strategy that the rules know and this gateway does not yet counts as `fallback`; `check` says so.
    """
    strategy = STRATEGIES.get(name, as_listed)
    priorities = sorted({target.priority for target in targets})
    if len(priorities) == 1:
        return strategy(targets, health, dice)
    groups = ([target for target in targets if target.priority == priority] for priority in priorities)
    return tuple(target for group in groups for target in strategy(group, health, dice))
