"""`mitmgate check`, as the command line calls it."""

import argparse
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from ruamel.yaml import YAML

from mitmgate.cli import check
from mitmgate.rules.editors import json_schema


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    return check.main(parser.parse_args(arguments))


NOTHING_ELSE = "0 models, 0 policies, 0 projects, 0 teams"
GOOD = "version: 1\nproviders: {openai: {}, simulator: {}}\nroutes: [{name: a, targets: [{provider: openai}]}]\n"
BAD = "version: 1\nroutes: [{name: a, targets: [{provider: openai}], retry: {max: 9}}]\n"


def test_valid_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    assert run(str(tmp_path)) == 0
    assert capsys.readouterr() == (f"rules are valid: 2 providers, 1 route, {NOTHING_ELSE}, 1 file\n", "")


def test_invalid_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(BAD)
    assert run(str(tmp_path)) == 1
    assert capsys.readouterr() == (
        "",
        "a.yaml:2:41: routes[0].targets[0].provider: unknown provider `openai`; it has to stand under `providers`\n"
        "a.yaml:2:64: routes[0].retry.max: expected a whole number from 0 to 5, found 9\n",
    )


def test_answers_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(BAD)
    assert run("--json", str(tmp_path)) == 1
    answer = orjson.loads(capsys.readouterr().out)
    assert answer["valid"] is False
    assert answer["problems"][1] == {
        "file": "a.yaml", "line": 2, "column": 64, "path": "routes[0].retry.max",
        "message": "expected a whole number from 0 to 5, found 9",
    }
    (tmp_path / "a.yaml").write_text(GOOD)
    assert run("--json", str(tmp_path)) == 0
    assert orjson.loads(capsys.readouterr().out) == {
        "valid": True, "problems": [], "warnings": [],
        "counts": {
            "problems": 0, "warnings": 0, "providers": 2, "routes": 1, "models": 0, "policies": 0, "projects": 0, "teams": 0,
            "files": 1,
        },
    }


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("providers: {openai: {}}\nroutes: [{name: a, targets: [{provider: openai}]}]\n",
         f"1 provider, 1 route, {NOTHING_ELSE}"),
        ("providers: {openai: {}, groq: {}}\n", f"2 providers, 0 routes, {NOTHING_ELSE}"),
    ],
)
def test_it_counts_as_people_do(tmp_path: Path, capsys: pytest.CaptureFixture[str], rules: str, told: str) -> None:
    (tmp_path / "a.yaml").write_text(f"version: 1\n{rules}")
    assert run(str(tmp_path)) == 0
    assert capsys.readouterr().out == f"rules are valid: {told}, 1 file\n"


def test_what_teams_have_is_counted_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "teams").mkdir()
    (tmp_path / "teams" / "t.yaml").write_text(
        "scope: {project: p}\nmodels: {m: {targets: [{provider: openai}]}}\n"
        "routes: [{name: b, match: {model: x}, targets: [{provider: openai}]}]\n"
    )
    (tmp_path / "a.yaml").write_text(
        "version: 1\nproviders: {openai: {}}\nprojects: {p: {}}\nmodels: {n: {targets: [{provider: openai}]}}\n"
    )
    (tmp_path / "b.yaml").write_text("policies: [{name: a, allow: {models: x}}]\n")
    (tmp_path / "none.yaml").write_text("# nothing\n")
    assert run(str(tmp_path)) == 0
    assert capsys.readouterr().out == (
        "rules are valid: 1 provider, 1 route, 2 models, 1 policy, 1 project, 1 team, 3 files\n"
    )


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD)
    assert run(str(file)) == 2
    assert capsys.readouterr().err == f"mitmgate check: {file} is a file; give the folder that holds it: {tmp_path}\n"
    assert run(str(tmp_path / "missing")) == 2
    assert capsys.readouterr().err == f"mitmgate check: there is no folder {tmp_path / 'missing'}\n"
    assert run() == 2
    assert capsys.readouterr().err == "mitmgate check: name the folder of rules: mitmgate check DIR\n"
    assert run("--requests", "r.json", str(tmp_path)) == 2
    assert capsys.readouterr().err == "mitmgate check: --requests goes with --diff OLD NEW\n"


def test_the_schema_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--schema") == 0
    assert orjson.loads(capsys.readouterr().out) == json_schema()


def validate(text: str) -> None:
    document: Any = YAML(typ="safe", pure=True).load(text)
    jsonschema.Draft202012Validator(json_schema()).validate(document)


def test_editors_accept_what_the_gateway_accepts() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    validate(GOOD)
    validate("""\
version: 1
listen: {proxy: "127.0.0.1:0"}
tunnel: governed
egress: {proxy: http://proxy:1, credential: client}
limits: {upload: 1MiB, drain: 5s}
providers:
  a: {base_url: https://a.example, credential: client, proxy: none, headers: {x: y}}
  b: {base_url: https://b.example, credential: [{env: A}, client]}
routes:
- name: r
  match: {model: a*, operation: [chat], header: {x: [a, b], y: c}, client: 10.0.0.0/8}
  targets: [{provider: a, weight: 0.5}]
  retry: {on: [408, 5xx], backoff: {base: 500ms}}
  timeout: {total: 5s, duration: none}
  set: {a: null, b: [1, {c: d}]}
""")


@pytest.mark.parametrize(
    "text",
    [
        "access: open",
        "version: 2",
        "{version: 1, rutes: []}",
        "{version: 1, access: maybe}",
        "{version: 1, limits: {drain: 30}}",
        "{version: 1, limits: {concurrency: 0}}",
        "{version: 1, routes: [{name: a, targets: []}]}",
        "{version: 1, routes: [{name: a b, targets: [{provider: a}]}]}",
        "{version: 1, routes: [{name: a, targets: [{provider: a}], match: {model: []}}]}",
        "{version: 1, routes: [{name: a, targets: [{provider: a}], match: {operation: chatt}}]}",
    ],
)
def test_editors_refuse_what_the_gateway_refuses(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(text)
