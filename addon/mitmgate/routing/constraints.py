"""What policies and projects demand of a target, whoever named it: a route, its fallback, the client, a built-in order.

Several demands hold together: each only takes away (DESIGN §4, "policies"; OPERATORS, task 1).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mitmgate.exchange import Allow, Constraint, Dropped, Reach, Target
from mitmgate.globs import Globs
from mitmgate.routing.match import Asked, Match


@dataclass(frozen=True, slots=True)
class Policy:
    """One of `policies:`, or what a project demands of its own calls."""

    match: Match
    constraint: Constraint

    def applies(self, asked: Asked) -> bool:
        """Whether this exchange is under it; in doubt it is."""
        return self.match(asked, doubt=True) is not None


def speaks_of(reach: Reach, target: Target, model: str | None, *, doubt: bool = False) -> bool:
    """Whether a policy's `for:` means this target. `model`: what the target is asked for; None with `doubt`: it may be any."""
    provider = target.provider
    any_model = doubt and model is None and target.base_model is None
    return (
        (reach.zone is None or reach.zone == provider.zone)
        and (reach.region is None or _fits(reach.region, provider.region))
        and (reach.provider is None or _fits(reach.provider, provider.name))
        and (reach.model is None or any_model or _fits(reach.model, model) or _fits(reach.model, target.base_model))
    )


def objection(constraints: Iterable[Constraint], target: Target, model: str | None, *, doubt: bool = False) -> str | None:
    """Why this target must not be asked, in words for operators; None: nothing speaks against it.

    `doubt`: where no model is known, one may be asked for all the same.
    """
    for constraint in constraints:
        if not speaks_of(constraint.reach, target, model, doubt=doubt):
            continue
        reason = "it refuses this target" if constraint.refuse else _refused(constraint.allow, target, model)
        if reason is not None:
            where = f" ({constraint.where})" if constraint.where else ""
            return f"{constraint.name}{where}: {reason}"
    return None


def divide(
    targets: Sequence[Target], constraints: Sequence[Constraint], model: str | None, *, doubt: bool = False
) -> tuple[tuple[Target, ...], tuple[Dropped, ...]]:
    """Those that may be asked, in their order, and the others with the reason. `model`: the one that the client asks for."""
    if not constraints:
        return tuple(targets), ()
    kept: list[Target] = []
    dropped: list[Dropped] = []
    for target in targets:
        reason = objection(constraints, target, target.model or model, doubt=doubt)
        if reason is None:
            kept.append(target)
        else:
            dropped.append(Dropped(target, reason))
    return tuple(kept), tuple(dropped)


def _refused(allow: Allow, target: Target, model: str | None) -> str | None:
    provider = target.provider
    if allow.regions is not None and not _fits(allow.regions, provider.region):
        return f"region {provider.region or 'unknown'} is not one of {allow.regions}"
    if allow.providers is not None and not _fits(allow.providers, provider.name):
        return f"provider {provider.name} is not one of {allow.providers}"
    if allow.models is not None and not _fits(allow.models, model) and not _fits(allow.models, target.base_model):
        return f"model {model or 'unknown'} is not one of {allow.models}"
    return None


def _fits(globs: Globs, value: str | None) -> bool:
    return value is not None and globs.match(value) is not None
