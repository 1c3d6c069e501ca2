"""What follows a failed attempt: the same target again, the next one, or the end. Pure; the addon waits and arms.

A fault is one of three things (DESIGN §4, FIELD §1):

    the client's    a 4xx about the request itself, a content filter's refusal: returned at once, every provider would say it
    this target's   a dead key, an unknown model, a window that is too small: the next target at once
    the weather's   connect, timeout, 408, 409, 429, 5xx: the same target after a wait where `retry.on` names it, then the next
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mitmgate.errors import Fault, FaultKind
from mitmgate.exchange import Attempt, Plan, RetryRule, Target
from mitmgate.routing.retry_after import requested_wait

MOST_TRIES: Final = 12                      # in all, whatever the rules say
LONGEST_WAIT: Final = 60.0                  # seconds that a provider may ask for; beyond it the target is skipped

_NEXT_STATUS: Final = frozenset({401, 402, 403})
_WEATHER: Final = frozenset({408, 409, 424, 429})   # 424: Bedrock, where the model itself failed
_CONTENT_FILTER: Final = frozenset({"content_filter", "content_policy_violation"})
_WINDOW: Final = frozenset({"context_length_exceeded"})
_DEAD_QUOTA: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_TIMEOUTS: Final = frozenset(
    {FaultKind.CONNECT_TIMEOUT, FaultKind.FIRST_TOKEN_TIMEOUT, FaultKind.IDLE_TIMEOUT, FaultKind.TOTAL_TIMEOUT}
)
_SLOW: Final = frozenset({FaultKind.FIRST_TOKEN_TIMEOUT, FaultKind.IDLE_TIMEOUT})
_BROKEN: Final = frozenset({FaultKind.CONNECT, FaultKind.TLS, FaultKind.RESET, FaultKind.GARBAGE, FaultKind.CUT})


class Follow(Enum):
    """Whose a fault is, and so what follows."""

    CLIENT = "client"
    NEXT = "next"
    RETRY = "retry"


def classify(fault: Fault, plan: Plan, target: Target) -> Follow:
    """What follows from `fault` at `target`, one of the plan's."""
    rule = plan.retry
    if fault.kind in _TIMEOUTS:
        return Follow.RETRY if "timeout" in rule.on else Follow.NEXT
    if fault.kind in _BROKEN:
        return Follow.RETRY if "connect" in rule.on else Follow.NEXT
    if fault.code in _CONTENT_FILTER:
        return Follow.CLIENT
    if fault.code in _WINDOW or fault.code in _DEAD_QUOTA:
        return Follow.NEXT
    if fault.kind is FaultKind.ERROR_EVENT and fault.status is None:
        return Follow.RETRY if "5xx" in rule.on else Follow.NEXT
    if fault.kind not in (FaultKind.STATUS, FaultKind.ERROR_EVENT) or fault.status is None:
        return Follow.NEXT                  # too large, a redirect, an address that is denied: another target may do
    if fault.status in _NEXT_STATUS:
        # The caller's own key: it must hear of it, and nobody else's key may answer in its place.
        return Follow.CLIENT if target.provider.client_credential else Follow.NEXT
    if fault.status == 404:
        return Follow.NEXT if plan.names_model else Follow.CLIENT
    if str(fault.status) in rule.on or (fault.status >= 500 and "5xx" in rule.on):
        return Follow.RETRY
    return Follow.NEXT if fault.status >= 500 or fault.status in _WEATHER else Follow.CLIENT


@dataclass(frozen=True, slots=True)
class Step:
    """The next try: the position of its target in the plan, and the seconds to wait before it."""

    position: int
    wait: float


@dataclass(frozen=True, slots=True)
class Situation:
    """Where an exchange stands after a failed attempt. Times are seconds; `now` and `deadline` monotonic, `wall` Unix."""

    position: int                           # of the target that failed
    tries_here: int                         # at it, this one included
    tries: int                              # in all
    fault: Fault
    now: float
    wall: float
    deadline: float
    renewed: bool = False                   # the credential that was refused has been replaced by another
    too_small: int | None = None            # the largest window, in tokens, that was found too small for this request


def too_small(attempts: Sequence[Attempt]) -> int | None:
    """The largest known window that a provider found too small; 0 if none of those that did is known; None: none did."""
    found = [each.target.context_window or 0 for each in attempts if each.fault is not None and each.fault.code in _WINDOW]
    return max(found, default=None)


def next_step(plan: Plan, at: Situation, random: Callable[[], float]) -> Step | None:
    """The next try, or None: give up."""
    follow = classify(at.fault, plan, plan.targets[at.position])
    if follow is Follow.CLIENT or at.tries >= MOST_TRIES or at.now >= at.deadline:
        return None
    following = _following(plan, at)
    if at.renewed and at.fault.status == 401:
        return Step(at.position, 0.0)       # a rotation loses no request
    if follow is Follow.RETRY and at.tries_here <= plan.retry.max and not (at.fault.kind in _SLOW and following is not None):
        asked = requested_wait(at.fault.headers, at.fault.status, at.wall)
        wait = backoff(plan.retry, at.tries_here, random) if asked is None else asked
        if (asked is None or asked <= LONGEST_WAIT) and at.now + wait < at.deadline:
            return Step(at.position, wait)
    return Step(following, 0.0) if following is not None else None


def _following(plan: Plan, at: Situation) -> int | None:
    """The next target's position; once a window was too small only one whose window is larger, or unknown."""
    for position in range(at.position + 1, len(plan.targets)):
        window = plan.targets[position].context_window
        if at.too_small is None or window is None or window > at.too_small:
            return position
    return None


def backoff(rule: RetryRule, tries: int, random: Callable[[], float]) -> float:
    """Seconds: full jitter over an exponential cap (AWS Architecture Blog, "Exponential Backoff And Jitter")."""
    return random() * min(rule.backoff_max, rule.backoff_base * 2.0 ** (tries - 1))
