"""What choosing a route costs among a thousand, beside looking at them one by one.

    .venv/bin/python bench/matching.py

Both are timed in turns in the same run; the ratio is the figure to trust. The target is 100 µs a request.
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

from mitmgate.conditions.condition import Condition
from mitmgate.conditions.facts import Facts
from mitmgate.exchange import Chosen
from mitmgate.globs import Globs
from mitmgate.routing.match import Asked, Match
from mitmgate.routing.table import Route, RouteTable

ROUTES = 1_000
TURNS = 9
WHEN = Condition.parse("request.stream == false && size(request.messages) < 20")
MESSAGES = [{"role": "user", "content": "x" * 100}] * 10


def globs(text: str) -> Globs:
    return Globs.parse((text,))


def asked(**given: Any) -> Asked:
    start: dict[str, Any] = {
        "host": "api.openai.com", "path": "/v1/chat/completions", "operation": "chat", "model": "gpt-4o", "client": "10.0.0.1",
        "headers": {"x-app": "a999", "content-type": "application/json", "user-agent": "OpenAI/Python 2.0"},
    }  # fmt: skip
    return Asked(**(start | given))


def cases() -> dict[str, tuple[list[Match], Callable[[], Asked]]]:
    """Name → routes, of which the last one or none fits, and the request."""
    numbers = range(ROUTES)
    chat = frozenset({"chat"})
    kinds = [
        lambda n: Match(model=globs(f"m-{n}")),
        lambda n: Match(project=globs(f"p{n}"), model=globs("gpt*")),
        lambda n: Match(host=globs(f"h{n}.example")),
        lambda n: Match(header=(("x-env", globs(f"e{n}")),)),
        lambda n: Match(model=globs(f"t{n}-*"), when=WHEN),
    ]
    return {
        "each names its model": ([Match(operation=chat, model=globs(f"m-{n}")) for n in numbers], lambda: asked(model="m-999")),
        "each has a pattern": ([Match(model=globs(f"team-{n:03}/*")) for n in numbers], lambda: asked(model="team-999/x")),
        "each names its project": (
            [Match(project=globs(f"p{n}"), model=globs("gpt*")) for n in numbers], lambda: asked(project="p999")
        ),
        "each wants its header": ([Match(header=(("x-app", globs(f"a{n}")),)) for n in numbers], asked),
        "five kinds": ([kinds[n % 5](n) for n in numbers], lambda: asked(project="p996")),
        "none fits": ([Match(model=globs(f"m-{n}")) for n in numbers], lambda: asked(model="other")),
        "a condition at the end": (
            [*(Match(model=globs(f"m-{n}")) for n in numbers[1:]), Match(when=WHEN)],
            lambda: asked(facts=Facts({"messages": MESSAGES}, 2_000, {})),
        ),
    }


def worst_conditions() -> dict[str, tuple[str, dict[str, Any], int]]:
    """Name → condition, body, the body's bytes: as large as conditions read."""
    many = [{"role": "user", "content": "x"}] * 9_900
    return {
        "16 MiB of text, counted": ("size(request.messages) > 0", {"messages": [{"content": "x" * (1 << 20)}] * 16}, 16 << 20),
        "16 MiB of text, searched": (
            'request.messages.exists(m, m.content.matches("(a|b)*c.*d$"))',
            {"messages": [{"content": "ab" * (1 << 19)}] * 16}, 16 << 20,
        ),
        "9,900 messages, each looked at": ('request.messages.exists(m, m.role == "tool")', {"messages": many}, 500_000),
        "30,000 messages: refused": ("size(request.messages) > 0", {"messages": [{"a": 1}] * 30_000}, 500_000),
    }  # fmt: skip


def one_by_one(table: RouteTable, request: Asked) -> Chosen | None:
    return next((route.chosen for route in table.routes if route.match(request) is not None), None)


def micros(once: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        once()
    return (time.perf_counter() - began) / times * 1e6


def main() -> None:
    print(f"| {ROUTES} routes | by index, µs | one by one, µs | ratio |\n| --- | ---: | ---: | ---: |")
    for name, (matches, request) in cases().items():
        fast, slow = measured(matches, request)
        print(f"| {name} | {fast:.0f} | {slow:.0f} | {fast / slow:.3f} |")
    print("\n| the worst conditions | once a request, ms |\n| --- | ---: |")
    for name, (text, document, size) in worst_conditions().items():
        once = functools.partial(hold, Condition.parse(text), document, size)
        print(f"| {name} | {statistics.median(micros(once, 1) for _ in range(TURNS)) / 1e3:.1f} |")


def hold(condition: Condition, document: dict[str, Any], size: int) -> bool | None:
    return Facts(document, size, {}).hold(condition)


def measured(matches: list[Match], request: Callable[[], Asked]) -> tuple[float, float]:
    """Microseconds a request, medians over the turns: by index, one by one."""
    table = RouteTable(tuple(Route(match, Chosen(f"r{n}", None, ())) for n, match in enumerate(matches)), {}, {})
    assert table.choose(request(), direct=False) == one_by_one(table, request())
    indexed, linear = [], []
    for _ in range(TURNS):
        indexed.append(micros(lambda: table.choose(request(), direct=False), 500))
        linear.append(micros(lambda: one_by_one(table, request()), 20))
    return statistics.median(indexed), statistics.median(linear)


if __name__ == "__main__":
    main()
