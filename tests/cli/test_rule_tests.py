"""`mitmgate test`: rule tests as operators and CI run them."""

import argparse
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest

from mitmgate.cli import test as command

RULES = """\
version: 1
intercept: [api.openai.com]
providers:
  openai: {}
  groq: {region: "${REGION:-us}"}
  together: {region: eu}
guardrails:
  pii: {check: pii}
  no-danger: {check: content_moderation}
projects:
  x: {allow: {regions: [eu]}, identify: {header: {x-app: x}}}
aliases: {gpt-4: gpt-4o}
policies:
  - {name: outside, match: {operation: chat}, for: {provider: groq}, guardrails: [pii]}
  - {name: no-o1, match: {model: "o1*"}, refuse: {status: 451, message: "Not o1."}}
models:
  fast: {targets: [{provider: groq, model: llama}], guardrails: [no-danger]}
routes:
  - {name: drafts, match: {model: "draft-*"}, strategy: weighted,
     targets: [{provider: groq, model: a}, {provider: openai, model: b}]}
  - name: all
    match: {model: [gpt-4o, "m-*"]}
    targets: [{provider: openai}, {provider: together, model: small, set: {seed: 1}}]
    set: {temperature: 0.2, stop: null}
"""
HELLO = "messages: [{role: user, content: hello}]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "rules.yaml").write_text(RULES)
    return tmp_path


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args([str(each) for each in arguments]))


def write(folder: Path, *tests: str, name: str = "a", top: str = "") -> None:
    """A file of tests: each on one line, from line 2 of the file on; their names are `one`, `two` …"""
    names = ("one", "two", "three", "four")
    lines = [f"- {{name: {number}, {test}}}\n" for number, test in zip(names, tests, strict=False)]
    (folder / "tests" / f"{name}.yaml").write_text(f"{top}tests:\n{''.join(lines)}")


def failure(folder: Path, capsys: pytest.CaptureFixture[str], test: str) -> str:
    """What the only test of the folder is told to have found; "" if it passes."""
    write(folder, test)
    code = run(folder)
    said = capsys.readouterr()
    assert said.err == ""
    first, _, rest = said.out.partition("\n")
    if code == 0:
        assert said.out == "1 test passed\n"
        return ""
    assert (code, rest) == (1, "1 test: 0 passed, 1 failed\n")
    assert first.startswith("tests/a.yaml:2: one: ")
    return first.removeprefix("tests/a.yaml:2: one: ")


GPT = f"request: {{model: gpt-4o, {HELLO}}}"
X = f"request: {{url: /v1/chat/completions, headers: {{x-app: x}}, body: {{model: gpt-4o, {HELLO}}}}}"
O1 = f"request: {{model: o1, {HELLO}}}"
DRAFT = f"request: {{model: draft-1, {HELLO}}}"
AWAY = "request: {url: 'https://example.com/'}"


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (f"{GPT}, expect: {{route: all}}", ""),
        (f"{GPT}, expect: {{route: drafts}}", "route: expected drafts, found all"),
        (f"{O1}, expect: {{route: drafts}}", "route: expected drafts, found none; refused 451 refused: Not o1."),
        (f"request: {{model: fast, {HELLO}}}, expect: {{route: fast, guardrails: [pii, no-danger]}}", ""),
        (f"{GPT}, expect: {{targets: [openai/gpt-4o, together/small]}}", ""),
        (f"{GPT}, expect: {{targets: [together/small, openai/gpt-4o]}}",
         "targets: expected together/small, openai/gpt-4o, found openai/gpt-4o, together/small"),
        (f"{GPT}, expect: {{targets: []}}", "targets: expected none, found openai/gpt-4o, together/small"),
        (f"{GPT}, expect: {{parameters: {{temperature: 0.2, stop: null, n: null, model: gpt-4o}}}}", ""),
        (f"{GPT}, expect: {{parameters: {{temperature: 1}}}}",
         'parameters: expected {"temperature":1}, found {"temperature":0.2}'),
        (f"{GPT}, expect: {{parameters: {{seed: 1}}}}", 'parameters: expected {"seed":1}, found {"seed":null}'),
        (f"{X}, expect: {{parameters: {{seed: 1, model: small}}}}", ""),
        (f"{X}, expect: {{parameters: {{seed: true}}}}", 'parameters: expected {"seed":true}, found {"seed":1}'),
        (f"{X}, expect: {{project: x, targets: [together/small], dropped: [openai/gpt-4o]}}", ""),
        (f"{X}, expect: {{project: unknown}}", "project: expected unknown, found x"),
        (f"{X}, expect: {{dropped: []}}", "dropped: expected none, found openai/gpt-4o"),
        (f"request: {{model: gpt-4, {HELLO}}}, expect: {{model: gpt-4o}}", ""),
        (f"{GPT}, expect: {{model: gpt-4}}", "model: expected gpt-4, found gpt-4o"),
        (f"{GPT}, expect: {{guardrails: [pii]}}", "guardrails: expected pii, found none"),
        (f"{O1}, expect: {{refused: true, targets: []}}", ""),
        (f"{O1}, expect: {{refused: {{status: 451}}}}", ""),
        (f"{O1}, expect: {{refused: {{code: refused}}}}", ""),
        (f"{O1}, expect: {{refused: {{status: 403, code: refused}}}}",
         "refused: expected 403 refused, found 451 refused: Not o1."),
        (f"{O1}, expect: {{refused: {{code: model_not_allowed}}}}",
         "refused: expected model_not_allowed, found 451 refused: Not o1."),
        (f"{O1}, expect: {{refused: false}}", "refused: expected false, found 451 refused: Not o1."),
        (f"{GPT}, expect: {{refused: true}}", "refused: expected true, found false"),
        (f"{GPT}, expect: {{refused: false}}", ""),
        (f"{AWAY}, expect: {{passes: true}}", ""),
        (f"{AWAY}, expect: {{passes: false}}", "passes: expected false, found true"),
        (f"{DRAFT}, expect: {{targets: [groq/a, openai/b]}}", ""),
        (f"{DRAFT}, dice: [0.9, 0.1], expect: {{targets: [openai/b, groq/a]}}", ""),
        (f"{DRAFT}, dice: [0.1, 0.9], expect: {{targets: [openai/b, groq/a]}}",
         "targets: expected openai/b, groq/a, found groq/a, openai/b"),
        ("request: {url: x}, expect: {route: all}",
         "the request is none: `url` must be a path such as /v1/chat/completions, or an http or https URL"),
        (f"request: {{header: {{x-app: x}}, body: {{model: gpt-4o, {HELLO}}}}}, expect: {{project: x}}",
         "the request is none: unknown key `header`; did you mean `headers`?"
         " A request has body, client, headers, method, proxy_user, url"),
        (f"request: {{ulr: /v1/chat/completions, body: {{model: gpt-4o, {HELLO}}}}}, expect: {{route: all}}",
         "the request is none: unknown key `ulr`; did you mean `url`?"
         " A request has body, client, headers, method, proxy_user, url"),
        ("request: {url: /v1/chat/completions, user: a, headr: {}}, expect: {route: all}",
         "the request is none: unknown key `headr`; did you mean `headers`?"
         " A request has body, client, headers, method, proxy_user, url"),
        (f"request: {{body: x, header: 5, model: gpt-4o, {HELLO}}}, expect: {{route: all}}",
         "the request is none: unknown key `header`; did you mean `headers`?"
         " A request has body, client, headers, method, proxy_user, url"),
        (f"request: {{body: x, model: gpt-4o, {HELLO}}}, expect: {{route: all}}", ""),
        (f"request: {{header: x, model: gpt-4o, {HELLO}}}, expect: {{route: all}}", ""),
        (f"{GPT}, expect: {{route: a, model: b, project: c}}",
         "route: expected a, found all; project: expected c, found unknown; model: expected b, found gpt-4o"),
    ],
)  # fmt: skip
def test_what_is_expected_and_what_is_found(
    folder: Path, capsys: pytest.CaptureFixture[str], test: str, said: str
) -> None:
    assert failure(folder, capsys, test) == said


def test_each_test_begins_anew(folder: Path) -> None:
    """Round-robin would begin further on with each test."""
    (folder / "rules.yaml").write_text(
        "version: 1\nproviders: {openai: {}, groq: {}}\n"
        "routes: [{name: r, strategy: round-robin, targets: [{provider: openai}, {provider: groq}]}]\n"
    )
    write(folder, *[f"{GPT}, expect: {{targets: [openai/gpt-4o, groq/gpt-4o]}}"] * 3)
    assert run(folder) == 0


def test_the_environment_of_a_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to_groq = f"request: {{url: /v1/chat/completions, headers: {{x-app: x}}, body: {{model: fast, {HELLO}}}}}"
    write(folder, f"{to_groq}, expect: {{targets: [groq/llama]}}", top="environment: {REGION: eu}\n")
    write(folder, f"{to_groq}, expect: {{dropped: [groq/llama]}}", name="b")
    assert run(folder) == 0, capsys.readouterr()
    monkeypatch.setenv("REGION", "eu")
    assert run(folder) == 1
    assert capsys.readouterr().out.endswith(
        "tests/b.yaml:2: one: dropped: expected groq/llama, found none\n2 tests: 1 passed, 1 failed\n"
    )


def test_providers_need_no_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "GROQ_API_KEY", "MISTRAL_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    write(folder, f"{GPT}, expect: {{targets: [openai/gpt-4o, together/small]}}")
    assert run(folder) == 0


def test_only_those_that_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, f"{GPT}, expect: {{route: all}}", f"{GPT}, expect: {{route: no}}", f"{GPT}, expect: {{route: all}}")
    assert run(folder, "-k", "ONE") == 0
    assert run(folder, "-k", "w") == 1
    assert run(folder, "-k", "none of them") == 1
    assert capsys.readouterr() == (
        "1 test passed\ntests/a.yaml:3: two: route: expected no, found all\n1 test: 0 passed, 1 failed\n",
        "mitmgate test: no test's name holds none of them\n",
    )


REPORT = """\
2 tests passed
coverage: 3 of 6 reached, 50%
rules.yaml:19: route drafts: no test reaches it
rules.yaml:17: model fast: no test reaches it
rules.yaml:15: policy no-o1: no test reaches it
"""


def test_what_no_test_reaches(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, f"request: {{model: gpt-4, {HELLO}}}, expect: {{route: all}}", f"{AWAY}, expect: {{passes: true}}")
    assert run(folder, "--coverage") == 0
    assert capsys.readouterr().out == REPORT
    assert run(folder, "--coverage-min", "50%") == 0
    assert run(folder, "--coverage-min", "50.5%") == 1
    assert "coverage: 3 of 6 reached, 50%, 50.5% asked for\n" in capsys.readouterr().out
    assert run(folder, "--coverage", "--json") == 0
    coverage = orjson.loads(capsys.readouterr().out)["coverage"]
    assert coverage["share"] == 0.5
    assert coverage["unreached"][0] == {"kind": "route", "name": "drafts", "where": "rules.yaml:19"}


def test_all_of_it_reached(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        folder,
        f"request: {{model: gpt-4, {HELLO}}}, expect: {{route: all}}",
        f"{DRAFT}, expect: {{route: drafts}}",
        f"request: {{model: fast, {HELLO}}}, expect: {{route: fast}}",
        f"{O1}, expect: {{refused: true}}",
    )
    assert run(folder, "--coverage-min", "100%") == 0
    assert capsys.readouterr().out == "4 tests passed\ncoverage: 6 of 6 reached, 100%, 100% asked for\n"


def test_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, f"{GPT}, expect: {{route: all}}", f"{GPT}, expect: {{route: no}}", "request: {url: x}, expect: {route: no}")
    assert run(folder, "--json") == 1
    answer: dict[str, Any] = orjson.loads(capsys.readouterr().out)
    assert (answer["passed"], answer["counts"]) == (False, {"tests": 3, "failed": 2})
    assert [each["passed"] for each in answer["tests"]] == [True, False, False]
    assert answer["tests"][1]["mismatches"] == [
        {"what": "route", "where": "tests/a.yaml:3", "expected": "no", "found": "all"}
    ]
    assert answer["tests"][2]["error"].startswith("the request is none: ")
    assert [each["refusal"] for each in answer["tests"]] == [None] * 3
    write(folder, f"{O1}, expect: {{route: drafts}}")
    assert run(folder, "--json", "--junit", folder / "report.xml") == 1
    assert orjson.loads(capsys.readouterr().out)["tests"][0]["refusal"] == "451 refused: Not o1."
    assert "tests/a.yaml:2: refused 451 refused: Not o1." in (folder / "report.xml").read_text()


def test_the_report_for_ci(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        folder,
        f"{GPT}, expect: {{route: all}}",
        f"{GPT}, expect: {{route: '<no> & \"none\"', model: m}}",
        "request: {url: x}, expect: {route: no}",
    )
    write(folder, f"{GPT}, expect: {{route: all}}", name="b")
    assert run(folder, "--junit", folder / "report.xml") == 1
    root = ElementTree.parse(folder / "report.xml").getroot()
    assert root.tag == "testsuites"
    first, second = root
    assert {name: first.get(name) for name in ("name", "tests", "failures", "errors")} == {
        "name": "tests/a.yaml", "tests": "3", "failures": "1", "errors": "1"
    }
    assert (second.get("name"), second.get("failures")) == ("tests/b.yaml", "0")
    passed, failed, none = first
    assert list(passed) == []
    assert [(each.get("name"), each.get("file"), each.get("line")) for each in first] == [
        ("one", "tests/a.yaml", "2"), ("two", "tests/a.yaml", "3"), ("three", "tests/a.yaml", "4")
    ]
    assert failed[0].tag == "failure"
    assert failed[0].get("message") == 'route: expected <no> & "none", found all; model: expected m, found gpt-4o'
    assert failed[0].text == (
        'tests/a.yaml:3: route: expected <no> & "none", found all\ntests/a.yaml:3: model: expected m, found gpt-4o'
    )
    assert none[0].tag == "error"
    assert all(float(str(each.get("time"))) >= 0 for each in (first, second, *first))
    assert run(folder, "--junit", folder / "missing" / "report.xml") == 2
    assert capsys.readouterr().err.endswith("report.xml cannot be written: No such file or directory\n")


def test_no_tests(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 1
    assert capsys.readouterr() == ("", f"mitmgate test: no tests; write them into {folder / 'tests'}/*.yaml\n")


def test_invalid_tests_and_rules(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "request: {}, expect: {rute: a}")
    assert run(folder) == 1
    assert capsys.readouterr() == ("", "tests/a.yaml:2:37: tests[0].expect.rute: unknown key; did you mean `route`?\n")
    assert run(folder, "--json") == 1
    answer = orjson.loads(capsys.readouterr().out)
    assert (answer["valid"], [each["path"] for each in answer["problems"]]) == (False, ["tests[0].expect.rute"])
    write(folder, f"{GPT}, expect: {{route: all}}")
    (folder / "rules.yaml").write_text("version: 1\nrutes: []\n")
    assert run(folder) == 1
    assert capsys.readouterr() == ("", "rules.yaml:2:1: rutes: unknown key; did you mean `routes`?\n")


def test_wrong_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder / "missing") == 2
    assert capsys.readouterr().err == f"mitmgate test: there is no folder {folder / 'missing'}\n"
    for wrong in ("80", "101%", "x"):
        with pytest.raises(SystemExit) as ended:
            run(folder, "--coverage-min", wrong)
        assert ended.value.code == 2
        assert "a percentage such as 80%" in capsys.readouterr().err


def test_what_came_from_the_environment_is_not_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSH", "sk-VERYsecret-0123")
    (tmp_path / "a.yaml").write_text(
        'version: 1\nproviders: {simulator: {}}\n'
        'routes: [{name: a, set: {user: "${HUSH}"}, targets: [{provider: simulator, model: "${HUSH}"}]}]\n'
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a.yaml").write_text(
        'tests: [{name: "of ${HUSH}", request: {model: m, messages: [{role: user, content: hi}]}, '
        'expect: {targets: ["x/${HUSH}"], parameters: {user: z}}}]\n'
    )
    junit = tmp_path / "junit.xml"
    assert run(tmp_path, "--junit", junit) == 1
    assert run(tmp_path, "--json") == 1
    told = capsys.readouterr()
    said = told.out + told.err + junit.read_text(encoding="utf-8")
    assert "verysecret" not in said.lower()
    assert "${HUSH}" in said
