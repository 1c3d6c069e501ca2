"""Files of rule tests: what they may say, and where and how a wrong one is told."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from mitmgate.rules.positions import RulesError
from mitmgate.rules.trials import Refused, TrialFile, load_trials

PAGE = Path(__file__).parents[2] / "docs" / "testing-rules.md"


def trials(folder: Path, environ: Mapping[str, str] | None = None, **files: str) -> tuple[TrialFile, ...]:
    """What the test files mean, each given by its name without `.yaml`."""
    (folder / "tests").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "tests" / f"{name}.yaml").write_text(text, encoding="utf-8", newline="")
    return load_trials(folder, environ or {})


def problems(folder: Path, **files: str) -> list[str]:
    with pytest.raises(RulesError) as caught:
        trials(folder, **files)
    return [str(problem) for problem in caught.value.problems]


def one(test: str) -> str:
    """A file with one test, which says this beside its name."""
    return f"tests:\n- {{name: a, {test}}}\n"


_KEYS = "route, targets, parameters, project, model, dropped, guardrails, refused, passes"
WRONG = [
    ("", "tests/a.yaml:1:1: tests: missing"),
    ("# nothing yet\n", "tests/a.yaml:1:1: tests: missing"),
    ("environment: {A: x}\n", "tests/a.yaml:1:1: tests: missing"),
    ("tests:\n", "tests/a.yaml:1:1: tests: has no value: write one, or leave the key out"),
    ("tests: []\n", "tests/a.yaml:1:8: tests: an empty list: name at least one"),
    ("tests: {name: a}\n", "tests/a.yaml:1:8: tests: expected a list, found a map"),
    ("- a\n", "tests/a.yaml:1:1: expected a map with `tests:` at the top of the file"),
    (one("request: {}, expect: {status: 403}"),
     "tests/a.yaml:2:35: tests[0].expect.status: unknown key; it stands under `refused`: write `refused: {status: 403}`"),
    (one("request: {}, expect: {route: a, code: [x]}"),
     "tests/a.yaml:2:45: tests[0].expect.code: unknown key; it stands under `refused`: write `refused: {code: …}`"),
    ("tests: [5]\n", "tests/a.yaml:1:9: tests[0]: expected a map, found 5"),
    ("test: []\ntests:\n- {name: a, request: {}, expect: {route: a}}\n",
     "tests/a.yaml:1:1: test: unknown key; did you mean `tests`?"),
    ("version: 1\ntests:\n- {name: a, request: {}, expect: {route: a}}\n",
     "tests/a.yaml:1:1: version: unknown key; expected one of environment, tests"),
    ("environment: [A]\ntests:\n- {name: a, request: {}, expect: {route: a}}\n",
     "tests/a.yaml:1:14: environment: expected a map, found a list"),
    ("environment: {A: [x]}\ntests:\n- {name: a, request: {}, expect: {route: a}}\n",
     "tests/a.yaml:1:18: environment.A: expected text, found a list"),
    ("environment: {A-B: x}\ntests:\n- {name: a, request: {}, expect: {route: a}}\n",
     "tests/a.yaml:1:15: environment.A-B: expected the name of an environment variable as the key"),
    ("environment: {A: '${MISSING}'}\ntests:\n- {name: a, request: {}, expect: {route: a}}\n",
     "tests/a.yaml:1:18: environment.A: the environment variable `MISSING` is not set; `${MISSING:-…}` gives a default"),
    ("tests:\n- {request: {}, expect: {route: a}}\n", "tests/a.yaml:2:3: tests[0].name: missing"),
    (one("expect: {route: a}"), "tests/a.yaml:2:3: tests[0].request: missing"),
    (one("request: {}"), "tests/a.yaml:2:3: tests[0].expect: missing"),
    (one("request: hello, expect: {route: a}"),
     "tests/a.yaml:2:22: tests[0].request: expected a map: a request's body, or its url, headers and body, found `hello`"),
    (one("request: {}, expect: {}"), f"tests/a.yaml:2:34: tests[0].expect: expected at least one of {_KEYS}"),
    (one("request: {}, expect: {rute: a}"), "tests/a.yaml:2:35: tests[0].expect.rute: unknown key; did you mean `route`?"),
    (one("request: {}, expects: {route: a}, expect: {route: a}"),
     "tests/a.yaml:2:26: tests[0].expects: unknown key; did you mean `expect`?"),
    (one("request: {}, expect: {targets: openai/gpt-4o}"),
     "tests/a.yaml:2:44: tests[0].expect.targets: expected a list, found `openai/gpt-4o`"),
    (one("request: {}, expect: {targets: [5]}"),
     "tests/a.yaml:2:45: tests[0].expect.targets[0]: expected text, found 5: put it in quotes"),
    (one("request: {}, expect: {parameters: [a]}"),
     "tests/a.yaml:2:47: tests[0].expect.parameters: expected a map, found a list"),
    (one("request: {}, expect: {refused: 403}"),
     "tests/a.yaml:2:44: tests[0].expect.refused: expected true, false or a map with status, code, found 403"),
    (one("request: {}, expect: {refused: {}}"),
     "tests/a.yaml:2:44: tests[0].expect.refused: expected at least one of status, code"),
    (one("request: {}, expect: {refused: {status: 200}}"),
     "tests/a.yaml:2:53: tests[0].expect.refused.status: expected a whole number from 400 to 599, found 200"),
    (one("request: {}, expect: {refused: {staus: 403}}"),
     "tests/a.yaml:2:45: tests[0].expect.refused.staus: unknown key; did you mean `status`?"),
    (one("request: {}, expect: {passes: yes}"),
     "tests/a.yaml:2:43: tests[0].expect.passes: expected true or false, found `yes`"),
    (one("request: {}, expect: {route: }"),
     "tests/a.yaml:2:35: tests[0].expect.route: has no value: write one, or leave the key out"),
    (one("request: {}, dice: 1, expect: {route: a}"),
     "tests/a.yaml:2:32: tests[0].dice: expected a number from 0 to 0.999…, as dice give it, found 1"),
    (one("request: {}, dice: [0.1, x], expect: {route: a}"),
     "tests/a.yaml:2:38: tests[0].dice[1]: expected a number from 0 to 0.999…, as dice give it, found `x`"),
    (one("request: {}, dice: [], expect: {route: a}"), "tests/a.yaml:2:32: tests[0].dice: an empty list: name at least one"),
    (one("request: {}, at: 2026-01-01T00:00:00, expect: {route: a}"),
     "tests/a.yaml:2:30: tests[0].at: expected a moment with its time zone"
     " such as 2026-01-01T00:00:00Z, found `2026-01-01T00:00:00`"),
    (one("request: {}, at: soon, expect: {route: a}"),
     "tests/a.yaml:2:30: tests[0].at: expected a moment with its time zone such as 2026-01-01T00:00:00Z, found `soon`"),
    (one("request: {model: '${NOT_SET}'}, expect: {route: a}"),
     "tests/a.yaml:2:30: tests[0].request.model: the environment variable `NOT_SET` is not set"
     "; `${NOT_SET:-…}` gives a default"),
    (one("request: {model: a, model: b}, expect: {route: a}"),
     "tests/a.yaml:2:33: tests[0].request.model: given twice, first at tests/a.yaml:2:23"),
    (one("request: {model: !x a}, expect: {route: a}"),
     "tests/a.yaml:2:30: tests[0].request.model: tags (`!…`) are not allowed: write the value alone"
     ", in quotes if it begins with `!`"),
    ("tests:\n- {name: a, request: {}, expect: {route: a}}\n- {name: a, request: {}, expect: {route: a}}\n",
     "tests/a.yaml:3:10: tests[1].name: `a` is given twice, first at tests/a.yaml:2:10"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_is_told_exactly(tmp_path: Path, text: str, message: str) -> None:
    assert problems(tmp_path, a=text) == [message]


def test_all_problems_of_all_files_at_once(tmp_path: Path) -> None:
    assert problems(tmp_path, a=one("request: {}, expect: {}, at: x"), b="tests: 1\n") == [
        f"tests/a.yaml:2:34: tests[0].expect: expected at least one of {_KEYS}",
        "tests/a.yaml:2:42: tests[0].at: expected a moment with its time zone such as 2026-01-01T00:00:00Z, found `x`",
        "tests/b.yaml:1:8: tests: expected a list, found 1",
    ]


def test_a_file_that_is_not_readable_is_named(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "b.yaml").write_bytes(b"tests: \xff\n")
    (tmp_path / "tests" / "c.yaml").symlink_to("/etc/hostname")
    assert problems(tmp_path, a=one("request: {}, expect: {route: a}")) == [
        "tests/b.yaml:1:8: not UTF-8: save the file as UTF-8",
        "tests/c.yaml:1:1: a link that leads out of the rules folder",
    ]


def test_a_folder_without_tests_has_none(tmp_path: Path) -> None:
    assert load_trials(tmp_path, {}) == ()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / ".#a.yaml").write_text("an editor's lock")
    (tmp_path / "tests" / "teams").mkdir()
    (tmp_path / "tests" / "teams" / "a.yaml").write_text("not looked at")
    assert load_trials(tmp_path, {}) == ()


def test_everything_that_a_test_may_say(tmp_path: Path) -> None:
    (file,) = trials(tmp_path, {"HOME_OF": "x", "B": "not this"}, a="""\
environment: {A: 1, B: "${HOME_OF}y", C: true}
tests:
- name: all of it
  request:
    url: /v1/${B}
    headers: {x-a: "1"}
    body:
      n: "${A}"
      m: ${A}
      stop: null
      s: $${A}
  dice: [0, 0.5]
  at: 2026-03-01T12:00:00+01:00
  expect:
    route: r
    targets: [a/b]
    parameters: {temperature: 0.2, stop: null}
    project: p
    model: m
    dropped: []
    guardrails: [g]
    refused: {status: 403}
    passes: false
- {name: little, request: {}, dice: 0.25, expect: {refused: true}}
""")
    assert (file.name, file.environment) == ("tests/a.yaml", {"A": "1", "B": "xy", "C": "true"})
    first, second = file.trials
    assert first.request == {
        "url": "/v1/xy", "headers": {"x-a": "1"}, "body": {"n": "1", "m": 1, "stop": None, "s": "${A}"}
    }
    assert (first.dice, first.at) == ((0.0, 0.5), 1_772_362_800.0)
    assert first.expect.model_dump() == {
        "route": "r", "targets": ("a/b",), "parameters": {"temperature": 0.2, "stop": None}, "project": "p", "model": "m",
        "dropped": (), "guardrails": ("g",), "refused": {"status": 403, "code": None}, "passes": False,
    }
    assert isinstance(first.expect.refused, Refused)
    assert (second.dice, second.at, second.expect.refused) == (0.25, None, True)
    assert (file.where["tests[0]"], file.where["tests[0].expect.targets"], file.where["tests[1]"]) == (
        "tests/a.yaml:3", "tests/a.yaml:16", "tests/a.yaml:24"
    )


def test_the_page_on_tests_shows_files_that_load(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        (file,) = trials(tmp_path, a=block)
        assert len(file.trials) >= 2


def test_the_page_on_tests_names_every_key() -> None:
    written = PAGE.read_text(encoding="utf-8")
    keys = {key.strip("`") for key in re.findall(r"^\| (`[^`]+`) \|", written, re.MULTILINE)}
    assert {key.strip() for key in _KEYS.split(",")} <= keys
    assert {"environment", *(f"tests[].{key}" for key in ("name", "request", "dice", "at", "expect"))} <= keys
