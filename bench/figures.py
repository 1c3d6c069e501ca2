"""Runs turned into figures: what one contender did in one case, over all rounds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from field import Run


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all rounds, and the least and the greatest of one round."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Times:
    """Percentiles of all samples of all rounds, in microseconds; None if there were none."""

    p50: int
    p99: int


@dataclass(frozen=True, slots=True)
class Figures:
    """One contender in one case. CPU is the proxy's own, in seconds per 1,000 requests, events or connections."""

    case: str
    contender: str
    count: int                      # requests, streams or connections that were answered
    events: int
    per_second: Spread
    cpu: Spread | None              # None: the upstream itself
    latency: Times | None
    first: Times | None             # request sent to first event read
    underway: Times | None          # event written upstream to event read
    stretch: Times | None           # a gap here minus the same gap upstream
    resumed: int                    # TLS sessions that the other side took up again
    failures: dict[str, int]
    unrecorded: int                 # replies that the gateway wrote no record of; may be < 0
    unaccounted: int                # replies that the upstream served beyond those that the clients got; may be < 0

    def json(self) -> dict[str, Any]:
        """Itself as plain JSON."""
        return asdict(self)


def times(samples: Sequence[int]) -> Times | None:
    """The percentiles of microseconds."""
    if not samples:
        return None
    ordered = sorted(samples)
    return Times(ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)])


def spread(pairs: Sequence[tuple[float, float]]) -> Spread:
    """The quotient of the sums of (dividend, divisor) pairs, one pair for each round."""
    each = [dividend / divisor for dividend, divisor in pairs if divisor] or [0.0]
    whole = sum(divisor for _, divisor in pairs)
    return Spread(sum(dividend for dividend, _ in pairs) / whole if whole else 0.0, min(each), max(each))


def figures(case: str, contender: str, runs: Sequence[Run], of_proxy: bool) -> Figures:
    """The figures of one contender's rounds of one case."""
    outcomes = [run.outcome for run in runs]
    counts = [outcome.replies + outcome.streams for outcome in outcomes]
    work = [outcome.events or count for outcome, count in zip(outcomes, counts, strict=True)]
    failures = sum((Counter(outcome.failures) for outcome in outcomes), Counter[str]())
    if unfinished := sum(outcome.unfinished for outcome in outcomes):
        failures["unfinished"] = unfinished
    return Figures(
        case, contender, sum(counts), sum(outcome.events for outcome in outcomes),
        per_second=spread([(done, outcome.seconds) for done, outcome in zip(work, outcomes, strict=True)]),
        cpu=spread([(run.cpu * 1000, done) for run, done in zip(runs, work, strict=True)]) if of_proxy else None,
        latency=times(list(chain.from_iterable(outcome.latency for outcome in outcomes))),
        first=times(list(chain.from_iterable(outcome.first for outcome in outcomes))),
        underway=times(list(chain.from_iterable(outcome.underway for outcome in outcomes))),
        stretch=times(list(chain.from_iterable(outcome.stretch for outcome in outcomes))),
        resumed=sum(outcome.resumed for outcome in outcomes),
        failures=dict(failures),
        unrecorded=sum(count - run.records for count, run in zip(counts, runs, strict=True) if run.records is not None),
        unaccounted=sum(run.served["requests"] + run.served["streams"] for run in runs) - sum(counts),
    )
