"""What the client is told when every try failed (DESIGN §5). No upstream text in it but an error that is passed on whole."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mitmgate.errors import Fault, FaultKind, Refusal
from mitmgate.exchange import Attempt, Plan
from mitmgate.routing.retry import LONGEST_WAIT, Follow, classify
from mitmgate.routing.retry_after import requested_wait

_UNREACHED = frozenset({FaultKind.CONNECT, FaultKind.TLS, FaultKind.DENIED})
_TIMEOUTS = frozenset(
    {FaultKind.CONNECT_TIMEOUT, FaultKind.FIRST_TOKEN_TIMEOUT, FaultKind.IDLE_TIMEOUT, FaultKind.TOTAL_TIMEOUT}
)


@dataclass(frozen=True, slots=True)
class PassOn:
    """The provider's own error goes to the client: its status, its body and its Retry-After."""

    fault: Fault


def conclude(plan: Plan, attempts: Sequence[Attempt], *, wall: float, late: bool) -> Refusal | PassOn:
    """The end of an exchange whose tries all failed. `late`: the total deadline has passed. `wall`: Unix seconds."""
    last = attempts[-1]
    fault = last.fault
    assert fault is not None
    if fault.kind in (FaultKind.STATUS, FaultKind.ERROR_EVENT) and fault.status is not None and (
        len(plan.targets) == 1 or classify(fault, plan, last.target) is Follow.CLIENT
    ):
        return PassOn(fault)
    headers = {"x-should-retry": "false"} if len(attempts) > 1 else {}
    if late or fault.kind is FaultKind.TOTAL_TIMEOUT:
        return Refusal("deadline_exceeded", f"The deadline passed. {_told(attempts)}", headers=headers)
    if len(plan.targets) == 1:
        if fault.kind in _TIMEOUTS:
            return Refusal("deadline_exceeded", f"The provider did not answer in time. {_told(attempts)}", headers=headers)
        if fault.kind in _UNREACHED:
            return Refusal("upstream_unreachable", f"The provider could not be reached. {_told(attempts)}", headers=headers)
    final = {attempt.target.key: attempt.fault for attempt in attempts if attempt.fault}
    if all(each.status == 429 for each in final.values()):
        waits = [requested_wait(each.headers, each.status, wall) for each in final.values()]
        soonest = min((wait for wait in waits if wait is not None), default=LONGEST_WAIT)
        headers = {**headers, "retry-after": str(max(1, math.ceil(soonest)))}
        return Refusal("rate_limit_exceeded", f"Every target is at its rate limit. {_told(attempts)}", headers=headers)
    return Refusal("all_targets_failed", f"Every target failed. {_told(attempts)}", headers=headers)


def _told(attempts: Sequence[Attempt]) -> str:
    """The attempts and their reasons, in our own words."""
    told = "; ".join(
        f"{number}. {attempt.target.key}: {attempt.fault.reason if attempt.fault else 'no fault'}"
        for number, attempt in enumerate(attempts, 1)
    )
    return f"Attempts: {told}."
