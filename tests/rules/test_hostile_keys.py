"""Files that are as large as may be and hold what is slow to check: an answer within a second of CPU (THREATS, row 25)."""

import time
from pathlib import Path

import pytest

from mitmgate.rules.files import LARGEST
from mitmgate.rules.loader import load
from mitmgate.rules.nodes import MOST_NODES, compose
from mitmgate.rules.positions import RulesError

BOUND = 1.0
TURNS = 3                                   # the best counts: others work on this machine


def nodes(text: str) -> int:
    tree, problems = compose(text, "a.yaml")
    assert tree is not None
    assert not problems
    return tree.size


def many(form: str, at_most: int = MOST_NODES, share: float = 1.0) -> str:
    """As many numbered ones as `share` of a file's bounds lets in."""
    opening = form[0]
    each = form[1:-1]
    size = nodes(f"{{a: {opening}{each}, {each.replace('#', 'x')}{form[-1]}}}") - nodes(f"{{a: {form}}}")
    room = min((MOST_NODES - 100) // size, (LARGEST - 1_000) // (len(each) + 8))
    number = min(int(room * share), at_most)
    return opening + ", ".join(each.replace("#", str(index)) for index in range(number)) + form[-1]


FILES = {
    "time zones": "budgets: " + many("[{name: b#, of: {tenant: t}, limit: 1 USD, per: day, timezone: N#}]"),
    "guardrails that are nowhere": "guardrails: " + many("{g#: {check: x}}", share=0.4) + "\n"
    "routes: [{name: r, targets: [{provider: openai}], guardrails: " + many("[h#]", share=0.5) + "}]",
    "projects": "projects: " + many("{p#: {client_may: {retries: 1}}}"),
    "projects that loosen": "projects: " + many("{p#: {client_may: {name_provider: true}}}"),
    "keys without effect": "models: " + many("{m#: {targets: [{provider: openai}], strict: true}}"),
    "empty `not`": "aliases: " + many("{a#: {model: x, match: {not: {}}}}"),
    "conditions": "aliases: " + many("{a#: {model: x, match: {when: 'request.n==#'}}}"),
    "wrong conditions": "aliases: " + many("{a#: {model: x, match: {when: request.m#}}}"),
    "long conditions": "aliases: " + many("{a#: {model: x, match: {when: '1 in [#," + "1," * 980 + "1]'}}}"),
    "unknown keys": "policies: " + many("[{name: p#, alow: {}, gard: []}]"),
}


@pytest.mark.parametrize("name", FILES)
def test_an_answer_within_a_second(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.yaml").write_text(f"version: 1\nproviders: {{openai: }}\n{FILES[name]}\n")
    took = []
    for _ in range(TURNS):
        begun = time.thread_time()
        told: list[str] = []
        try:
            load(tmp_path, {}, ("openai",))
        except RulesError as error:
            told = [problem.message for problem in error.problems]
        took.append(time.thread_time() - begun)
        assert not any("split it" in message for message in told), "beyond the bounds of files: nothing was checked"
        if took[-1] < BOUND:
            return
    pytest.fail(f"{took} s of CPU")
