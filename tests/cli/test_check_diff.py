"""`mitmgate check --diff OLD NEW`: what differs, where it stands on both sides, and which requests are served otherwise."""

import argparse
import io
from pathlib import Path
from typing import Any

import orjson
import pytest

from mitmgate.cli import check


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    return check.main(parser.parse_args(arguments))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    return old, new


def write(folder: Path, *lines: str, name: str = "a.yaml") -> None:
    (folder / name).write_text("\n".join((*(("version: 1",) if name == "a.yaml" else ()), *lines, "")), encoding="utf-8")


def told(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    old, new = folders
    status = run("--diff", str(old), str(new), *more)
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    same = lines[0] == "the rules say the same" and (len(lines) == 1 or lines[1].startswith("0 of "))
    assert status == (0 if same else 1)
    return lines


PROVIDERS = "providers: {simulator: {}, openai: {}}"
A = "- {name: a, match: {model: a}, targets: [{provider: openai}]}"
B = "- {name: b, match: {model: b}, targets: [{provider: openai}]}"
C = "- {name: c, match: {model: c}, targets: [{provider: openai}]}"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([PROVIDERS], [PROVIDERS], ["the rules say the same"]),
        # A default that is written out, another spelling, other places: no difference
        (
            [PROVIDERS, "routes:", A],
            ["workers: 1", "unmatched: pass", "", PROVIDERS, "routes:",
             "- {name: a, match: {model: [a]}, targets: [{provider: openai, weight: 1}], retry: {max: 2}}"],
            ["the rules say the same"],
        ),
        ([PROVIDERS, "aliases: {x: a}"], [PROVIDERS, "aliases: {x: {model: a}}"], ["the rules say the same"]),
        # Added, removed, changed, moved
        (
            [PROVIDERS, "routes:", A, B],
            [PROVIDERS, "# more", "routes:", B, C],
            ["route c added (a.yaml:6)", "route a removed (a.yaml:4)"],
        ),
        (
            [PROVIDERS, "routes:", A, B, C],
            [PROVIDERS, "routes:", C, A, B],
            ["route c moved (a.yaml:6 → a.yaml:4)", "    was after b, is first"],
        ),
        (
            [PROVIDERS, "routes:", A, B],
            [PROVIDERS, "routes:", B.replace("model: b", "model: [b, bb]"), A.replace("}]}", "}], timeout: {total: 5s}}")],
            [
                "route b changed (a.yaml:5 → a.yaml:4)",
                "    match.model: b → [b, bb]",
                "route a changed (a.yaml:4 → a.yaml:5)",
                "    timeout.total: not given → 5s",
                "    was first, is after b",
            ],
        ),
        # Targets
        (
            [PROVIDERS, "routes:", "- name: a", "  targets: [{provider: openai, model: x}, {provider: openai, weight: 2}]"],
            [PROVIDERS, "routes:", "- name: a", "  targets: [{provider: openai, weight: 3}, {provider: openai, model: x}]",
             "  fallback: [{provider: simulator, model: sim-1}]"],
            [
                "route a changed (a.yaml:4 → a.yaml:4)",
                "    targets.openai/*.weight: 2 → 3",
                "    targets.openai/x: was first, is after openai/*",
                "    fallback.simulator/sim-1: added {provider: simulator, model: sim-1}",
            ],
        ),
        (
            [PROVIDERS, "models: {fast: {targets: [{provider: openai, model: x}, {provider: simulator}]}}"],
            [PROVIDERS, "models: {fast: {targets: [{provider: simulator}]}}"],
            ["model fast changed (a.yaml:3 → a.yaml:3)", "    targets.openai/x: removed {provider: openai, model: x}"],
        ),
        # Everything else that has a name, and settings
        (
            [PROVIDERS, "aliases: {x: a}", "projects: {p: {}, q: {}}",
             "policies: [{name: eu, allow: {regions: eu}}]", "limits: {drain: 5s}"],
            ["providers: {simulator: {}, openai: {region: eu}}", "aliases: {x: b, y: c}",
             "projects: {p: {identify: {client: 10.0.0.0/8}}}",
             "policies: [{name: eu, allow: {regions: [eu, ch]}, match: {project: p}}]", "limits: {drain: 10s}", "workers: 2"],
            [
                "provider openai changed (a.yaml:2 → a.yaml:2)",
                "    region: not given → eu",
                "alias x changed (a.yaml:3 → a.yaml:3)",
                "    model: a → b",
                "alias y added (a.yaml:3)",
                "policy eu changed (a.yaml:5 → a.yaml:5)",
                "    match.project: not given → p",
                "    allow.regions: eu → [eu, ch]",
                "project p changed (a.yaml:4 → a.yaml:4)",
                "    identify.client: not given → 10.0.0.0/8",
                "project q removed (a.yaml:4)",
                "setting workers changed (a.yaml:7)",
                "    not given → 2",
                "setting limits changed (a.yaml:6 → a.yaml:6)",
                "    drain: 5s → 10s",
            ],
        ),
    ],
)  # fmt: skip
def test_differences(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], old: list[str], new: list[str], expected: list[str]
) -> None:
    write(folders[0], *old)
    write(folders[1], *new)
    assert told(folders, capsys) == expected


def test_an_order_is_mended_with_the_fewest_moves(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    routes = [f"- {{name: r{number}, match: {{model: m{number}}}, targets: [{{provider: openai}}]}}" for number in range(9)]
    write(folders[0], PROVIDERS, "routes:", *routes)
    write(folders[1], PROVIDERS, "routes:", *routes[1:6], routes[8], *routes[6:8], routes[0])
    assert [line for line in told(folders, capsys) if line.startswith("route")] == [
        "route r8 moved (a.yaml:12 → a.yaml:9)",
        "route r0 moved (a.yaml:4 → a.yaml:12)",
    ]


def test_places_in_several_files(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for folder in folders:
        write(folder, PROVIDERS, "routes:", A)
    write(folders[0], "routes:", "- {name: b, targets: [{provider: openai, weight: 1}]}", name="b.yaml")
    write(folders[1], "routes:", C, "- {name: b, targets: [{provider: openai, weight: 4}]}", name="b.yaml")
    assert told(folders, capsys) == [
        "route c added (b.yaml:2)",
        "route b changed (b.yaml:2 → b.yaml:3)",
        "    targets.openai/*.weight: 1 → 4",
    ]


def test_teams(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for folder in folders:
        write(folder, PROVIDERS, "projects: {search: {}, mail: {}}")
        (folder / "teams").mkdir()
    write(folders[0], "scope: {project: search}", "routes:", A, B, name="teams/s.yaml")
    write(folders[1], "scope: {project: [search]}", "prompts: {source: files}", "routes:", A.replace("model: a", "model: x"),
          "aliases: {k: v}", name="teams/s.yaml")
    write(folders[1], "scope: {project: [mail]}", name="teams/t.yaml")
    assert told(folders, capsys) == [
        "route s/a changed (teams/s.yaml:3 → teams/s.yaml:4)",
        "    match.model: a → x",
        "route s/b removed (teams/s.yaml:4)",
        "alias s/k added (teams/s.yaml:5)",
        "setting teams.t.scope changed (teams/t.yaml:1)",
        "    project: not given → [mail]",
    ]


SECRETS = ("s3cret-old", "s3cret-new", "old-host", "new-host", "from-the-environment")


def test_secrets_are_never_shown(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGION", "from-the-environment")
    for folder, word, max_ in ((folders[0], "old", 1), (folders[1], "new", 2)):
        write(
            folder,
            "providers:",
            "  openai: {credential: {value: s3cret-" + word + "}, headers: {authorization: s3cret-" + word + "}}",
            "  own: {base_url: https://" + word + "-host.example/s3cret, proxy: http://" + word + "-host.example:1}",
            "  eu: {base_url: https://eu.example, region: " + ("eu" if word == "old" else '"${REGION}"') + "}",
            "state: {database: postgresql://u:s3cret-" + word + "@h/d}",
            "notify: {ops: {webhook: {url: https://" + word + "-host.example/s3cret-" + word + "}}}",
            "routes:",
            "- {name: a, match: {header: {Authorization: Bearer s3cret-" + word + "}}, targets: [{provider: own}],",
            "   retry: {max: " + str(max_) + "}}",
        )
    lines = told(folders, capsys)
    assert lines == [
        "provider openai changed (a.yaml:3 → a.yaml:3)",
        "    credential.value: changed, not shown",
        "    headers.authorization: changed, not shown",
        "provider own changed (a.yaml:4 → a.yaml:4)",
        "    base_url: changed, not shown",
        "    proxy: changed, not shown",
        "provider eu changed (a.yaml:5 → a.yaml:5)",
        "    region: eu → ${REGION}",
        "route a changed (a.yaml:9 → a.yaml:9)",
        "    retry.max: 1 → 2",
        "    match.header.Authorization: changed, not shown",
        "receiver ops changed (a.yaml:7 → a.yaml:7)",
        "    webhook.url: changed, not shown",
        "setting state changed (a.yaml:6 → a.yaml:6)",
        "    database: changed, not shown",
    ]
    run("--json", "--diff", str(folders[0]), str(folders[1]))
    written = capsys.readouterr().out
    assert not [secret for secret in SECRETS if secret in written]


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


def test_requests_that_would_be_served_otherwise(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write(folders[0], PROVIDERS, "routes:", A, B, "- {name: c, match: {model: c}, targets: [{provider: openai}], set: {n: 1}}")
    write(
        folders[1], PROVIDERS, "routes:",
        "- {name: a, match: {model: a}, targets: [{provider: simulator, model: sim-1}], fallback: [{provider: openai}]}",
        "- {name: b, match: {model: b}, refuse: {message: gone}}",
        "- {name: c, match: {model: c}, targets: [{provider: openai}], set: {n: 2, temperature: 0.5}}",
        "- {name: d, match: {client: 10.0.0.0/8}, targets: [{provider: openai}]}",
    )  # fmt: skip
    requests = tmp_path / "requests.jsonl"
    asked = [
        body("a"), body("b"), body("c"), body("openai/x"), {"model": "a"},
        {"url": "/v1/chat/completions", "body": body("openai/x"), "client": "10.1.2.3"},
    ]  # fmt: skip
    requests.write_bytes(b"\n".join(map(orjson.dumps, asked)))
    lines = told(folders, capsys, "--requests", str(requests))
    assert lines[lines.index("line 1 would be served otherwise"):] == [
        "line 1 would be served otherwise",
        "    targets: openai/a → simulator/sim-1, openai/a",
        "line 2 would be served otherwise",
        "    refusal: none → 403 refused: gone",
        "    targets: openai/b → none",
        "line 3 would be served otherwise",
        "    n: 1 → 2",
        "    temperature: as it came → 0.5",
        "line 6 would be served otherwise",
        "    route: provider/openai → d",
        "    targets: openai/x → openai/openai/x",
        "4 of 6 requests would be served otherwise",
        "1 refused by both, line 5 with 400 invalid_request: `messages` must be a non-empty array.",
    ]
    as_array = tmp_path / "requests.json"
    as_array.write_bytes(orjson.dumps(asked))
    assert run("--json", "--diff", *map(str, folders), "--requests", str(as_array)) == 1
    answer = orjson.loads(capsys.readouterr().out)
    assert (answer["valid"], answer["same"]) == (True, False)
    assert (answer["requests"]["compared"], answer["requests"]["refused_by_both"]) == (6, 1)
    otherwise = answer["requests"]["otherwise"]
    assert [each["request"] for each in otherwise] == ["request 1", "request 2", "request 3", "request 6"]
    assert otherwise[2]["new"] == {
        "route": "c", "targets": ["openai/c"], "parameters": {"n": 2, "temperature": 0.5}, "refusal": None, "untouched": None,
    }


def test_rules_that_differ_may_serve_alike(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folders[0], PROVIDERS, "routes:", A)
    write(folders[1], PROVIDERS, "routes:", A, B)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(orjson.dumps([body("a")]))))
    assert told(folders, capsys, "--requests", "-") == [
        "route b added (a.yaml:5)",
        "0 of 1 request would be served otherwise",
    ]


def test_turns_are_alike(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """How often a route was taken before is no difference between rules."""
    turns = "- {name: a, strategy: round-robin, targets: [{provider: openai, model: x}, {provider: simulator, model: y}]}"
    write(folders[0], PROVIDERS, "routes:", turns)
    write(folders[1], PROVIDERS, "routes:", A, turns.replace("name: a", "name: b"))
    requests = tmp_path / "requests.json"
    requests.write_bytes(orjson.dumps([body("b"), body("a"), body("b")]))
    lines = told(folders, capsys, "--requests", str(requests))
    assert lines[-7:] == [
        "request 1 would be served otherwise",
        "    route: a → b",
        "request 2 would be served otherwise",
        "    targets: openai/x, simulator/y → openai/a",
        "request 3 would be served otherwise",
        "    route: a → b",
        "3 of 3 requests would be served otherwise",
    ]


def test_rules_that_are_invalid(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    old, new = folders
    write(old, "routs: []")
    write(new, "providers: {openai: {disabled: true}}", "routes:", A)
    assert run("--diff", str(old), str(new)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"{old}/a.yaml:2:1: routs: unknown key; did you mean `routes`?\n"
        f"{new}/a.yaml:4:3: routes[0]: has no active target: every provider that it names is `disabled`\n"
    )
    assert run("--json", "--diff", str(old), str(new)) == 1
    answer = orjson.loads(capsys.readouterr().out)
    assert (answer["valid"], answer["same"], answer["changes"], answer["requests"]) == (False, False, [], None)
    assert [[each["path"] for each in answer["problems"][side]] for side in ("old", "new")] == [["routs"], ["routes[0]"]]


MEANT = "a request is a body, or {{method, url, headers, body, client, proxy_user}}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "{} holds no request: write a JSON array of requests, or one a line"),
        ("[]", "{} holds no request: write a JSON array of requests, or one a line"),
        ("[1]", "{}: request 1 is no request: " + MEANT),
        ('{{"model": "a"}}\n\n"b"', "{}: line 3 is no request: " + MEANT),
        ("{{", "{}:1 is not JSON: unexpected end of data; write a JSON array of requests, or one a line"),
        (None, "{} cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_files_of_requests_that_are_none(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str | None, message: str
) -> None:
    file = tmp_path / "requests"
    if content is not None:
        file.write_text(content.replace("{{", "{").replace("}}", "}"))
    for folder in folders:
        write(folder, PROVIDERS)
    assert run("--diff", *map(str, folders), "--requests", str(file)) == 2
    assert capsys.readouterr() == ("", f"mitmgate check: {message.format(file)}\n")


def test_wrong_usage(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    old, new = map(str, folders)
    missing = tmp_path / "missing"
    advice = "--diff compares two folders and takes neither DIR nor --strict: mitmgate check --diff OLD NEW"
    for arguments, message in (
        (("--diff", old, str(missing)), f"there is no folder {missing}"),
        (("--diff", old, new, "--strict"), advice),
        ((old, "--diff", old, new), advice),
    ):
        assert run(*arguments) == 2
        assert capsys.readouterr() == ("", f"mitmgate check: {message}\n")
