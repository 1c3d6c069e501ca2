"""`mitmgate explain`: the story of a request, for people and for programs."""

import argparse
import io
from pathlib import Path
from typing import Any

import orjson
import pytest

from mitmgate.cli import explain

RULES = """\
version: 1
intercept: [api.openai.com]
providers:
  eu: {dialect: openai, base_url: "https://eu.example/v1", credential: {value: sk-of-the-rules}, region: eu}
  openai: {headers: {x-secret: hidden-header}}
  groq: {}
guardrails:
  pii: {check: pii, on: [request], action: redact}
projects:
  x: {allow: {regions: [eu]}, identify: {header: {x-app: x}}, tenant: acme}
  y: {tenant: other}
aliases: {gpt-4: gpt-4o}
policies:
  - {name: pii-stays-in, match: {project: "*"}, for: {zone: external}, guardrails: [{use: pii, action: block}]}
  - {name: no-o1, match: {model: "o1*"}, refuse: {message: "Not o1."}}
  - {name: of-acme, match: {tenant: acme}, allow: {providers: ["*"]}}
  - {name: not-for-x, match: {not: {project: x}}, allow: {providers: ["*"]}}
models:
  fast: {targets: [{provider: groq, model: llama}]}
routes:
  - {name: keyed, match: {header: {authorization: "Bearer sk-of-the-match"}}, targets: [{provider: openai}]}
  - name: x-4o
    match: {project: x, model: [gpt-4o, "gpt-4o-2*"]}
    strategy: weighted
    sticky: header:x-session-id
    targets: [{provider: eu, model: my-4o, weight: 3, set: {seed: 1}}, {provider: groq}]
    fallback: [{provider: openai, model: gpt-4o}]
    set: {temperature: 0.2}
    default: {user: nobody}
    retry: {max: 1, backoff: {base: 1s, max: 2s}}
  - {name: big, match: {when: "request.max_tokens > 1000"}, targets: [{provider: openai}], retry: {max: 0}}
  - {name: closed, match: {operation: embeddings}, refuse: {status: 410, message: "Gone."}}
"""
HELLO = '"messages": [{"role": "user", "content": "a text of the user"}]'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "rules.yaml").write_text(RULES)
    return tmp_path / "rules"


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    explain.add_arguments(parser)
    return explain.main(parser.parse_args([str(each) for each in arguments]))


def told(folder: Path, request: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What people read of a request."""
    (folder.parent / "request.json").write_text(request)
    assert run(folder, folder.parent / "request.json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def document(folder: Path, request: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What programs read of it."""
    (folder.parent / "request.json").write_text(request)
    assert run(folder, folder.parent / "request.json", "--json") == 0
    answer: dict[str, Any] = orjson.loads(capsys.readouterr().out)
    return answer


X = (
    '{"url": "/v1/chat/completions", '
    '"headers": {"x-app": "x", "x-session-id": "7", "authorization": "Bearer sk-of-the-client"}, '
)


def test_a_whole_story(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(folder, f'{X} "body": {{"model": "gpt-4", {HELLO}}}}}', capsys) == """\
request   POST /v1/chat/completions direct, to 127.0.0.1
          operation chat, model gpt-4, client 127.0.0.1, project x, tenant acme
alias     gpt-4 → gpt-4o (rules.yaml:12)
routes    rules.yaml:21  keyed  no: header.authorization: wants (not shown); the request has (not shown)
          rules.yaml:22  x-4o   matches
plan      weighted, sticky by header:x-session-id
   1  eu/my-4o       external eu  weight 3
      guardrail pii → block, by policy pii-stays-in (rules.yaml:14)
      sets seed=1
   -  groq/gpt-4o    external     weight 1  dropped: project x (rules.yaml:10): region unknown is not one of eu
      guardrail pii → block, by policy pii-stays-in (rules.yaml:14)
   -  openai/gpt-4o  external     weight 1  dropped: project x (rules.yaml:10): region unknown is not one of eu
      guardrail pii → block, by policy pii-stays-in (rules.yaml:14)
policies  policy pii-stays-in (rules.yaml:14): for zone external; guardrails pii
          policy of-acme (rules.yaml:16): allows providers *
          project x (rules.yaml:10): allows regions eu
sets      set: temperature=0.2; default: user="nobody"
retry     1 more try per target on 408, 409, 429, 5xx, connect, timeout; pauses 1 to 2 s
timeout   connect 5 s, idle 60 s, total 600 s
"""


def test_why_each_route_did_not_match(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(folder, f'{{"model": "fast", "max_tokens": 7, {HELLO}}}', capsys)
    assert """\
routes    rules.yaml:21  keyed   no: header.authorization: wants (not shown); the request has none
          rules.yaml:22  x-4o    no: model: wants gpt-4o, gpt-4o-2*; the request has `fast`
          rules.yaml:31  big     no: when: request.max_tokens > 1000: it is false
          rules.yaml:32  closed  no: operation: wants embeddings; the request has `chat`
served by fast (rules.yaml:19): the name stands under `models:`
plan      fallback
   1  groq/llama  external
""" in said


@pytest.mark.parametrize(
    ("request_", "last"),
    [
        (f'{{"model": "o1-mini", {HELLO}}}', "refused   403 refused, by policy no-o1 (rules.yaml:15): Not o1."),
        ('{"model": "e", "input": "x"}', "refused   410 refused, by route closed (rules.yaml:32): Gone."),
        (f'{{"model": "zzz", {HELLO}}}', "refused   404 model_not_found: No route of this gateway serves this model."),
        ('{"model": "zzz", "messages": []}', "refused   400 invalid_request: `messages` must be a non-empty array."),
        ('{"url": "/v1//models"}',
         "refused   400 invalid_request: The path is ambiguous: the path holds an empty segment, /./ or /../"),
        ('{"url": "/other"}', "refused   404 not_found: No API of this gateway has this path."),
        ('{"url": "/v1/models", "headers": {"Origin": "https://evil.example"}}',
         "refused   403 refused: Calls from web pages are not accepted."),
        (f'{X} "body": {{"model": "groq/llama", {HELLO}}}}}',
         "refused   403 model_not_allowed: The rules of this gateway allow no target for this request."),
        ('{"url": "/v1/models"}', "answer    the gateway's own, from its rules; nobody is asked"),
        ('{"url": "https://example.com/v1/models"}',
         "passes    no rule intercepts example.com: it is tunnelled, not decrypted"),
    ],
)  # fmt: skip
def test_how_it_ends(folder: Path, capsys: pytest.CaptureFixture[str], request_: str, last: str) -> None:
    assert told(folder, request_, capsys).splitlines()[-1] == last


def test_a_call_that_was_never_matched_shows_no_routes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for request in ('{"model": "gpt-4o", "messages": []}', f'{{"model": "o1", {HELLO}}}', '{"url": "/v1/models"}'):
        assert document(folder, request, capsys)["tried"] == []


def test_the_original_destination(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(folder, f'{{"url": "https://api.openai.com/v1/chat/completions", "body": {{"model": "o3", {HELLO}}}}}', capsys)
    assert "POST /v1/chat/completions proxied, to api.openai.com\n" in said
    assert "served by original: where the client meant to go, with its own key\n" in said
    assert "   1  openai/o3  external\n" in said


def test_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = document(folder, f'{X} "body": {{"model": "gpt-4", {HELLO}}}}}', capsys)
    assert answer["tried"][1] == {"route": "x-4o", "where": "rules.yaml:22", "key": None, "wanted": None, "found": None}
    assert (answer["by"], answer["route"], answer["where"]) == ("route", "x-4o", "rules.yaml:22")
    assert [(each["target"], each["verdict"] == "kept") for each in answer["plan"]] == [
        ("eu/my-4o", True), ("groq/gpt-4o", False), ("openai/gpt-4o", False)
    ]
    assert answer["plan"][0]["guardrails"] == [
        {"guardrail": "pii", "action": "block", "by": "policy pii-stays-in", "where": "rules.yaml:14"}
    ]
    assert answer["refusal"] is None
    refusal = document(folder, '{"model": "e", "input": "x"}', capsys)["refusal"]
    assert refusal == {"status": 410, "code": "refused", "message": "Gone.", "by": "route closed", "where": "rules.yaml:32"}


def test_neither_secrets_nor_the_users_words_are_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), ("--json",)):
        for request in (f'{X} "body": {{"model": "gpt-4", {HELLO}}}}}', f'{{"model": "zzz", {HELLO}}}'):
            (folder.parent / "request.json").write_text(request)
            assert run(folder, folder.parent / "request.json", *arguments) == 0
    assert run(folder, "--effective", "project/x") == 0
    said = "".join(capsys.readouterr())
    for secret in ("sk-of-the-rules", "sk-of-the-match", "sk-of-the-client", "hidden-header", "a text of the user"):
        assert secret not in said


def test_what_a_terminal_would_obey_is_not_repeated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "more.yaml").write_text("routes: [{name: r, match: {header: {x-a: b}}, targets: [{provider: groq}]}]\n")
    body = f'{{"model": "fast", "gateflow": {{"tags": {{"team": "red"}}}}, {HELLO}}}'
    said = told(folder, f'{{"url": "/v1/chat/completions", "headers": {{"x-a": "\\u001b[31m"}}, "body": {body}}}', capsys)
    assert "header.x-a: wants b; the request has `�[31m`" in said
    assert "project unknown, tag.team red\n" in said


def test_from_stdin(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f'{{"model": "fast", {HELLO}}}'.encode())))
    assert run(folder, "-") == 0
    assert "served by fast" in capsys.readouterr().out


def test_of_many_routes_those_are_listed_that_came_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules").mkdir()
    routes = [f"- {{name: r{n}, match: {{model: m{n}}}, targets: [{{provider: groq}}]}}\n" for n in range(100)]
    routes[5] = "- {name: near, match: {model: zzz, header: {x-a: b}}, targets: [{provider: groq}]}\n"
    routes[90] = "- {name: this, match: {model: zzz}, targets: [{provider: groq}]}\n"
    (tmp_path / "rules" / "a.yaml").write_text("version: 1\nproviders: {groq: {}}\nroutes:\n" + "".join(routes))
    said = told(tmp_path / "rules", f'{{"model": "zzz", {HELLO}}}', capsys)
    listed = [line.split()[-1 if line.endswith("matches") else 1] for line in said.splitlines() if "a.yaml:" in line]
    assert len(listed) == 30
    assert "a.yaml:9   near  no: header.x-a: wants b; the request has none\n" in said
    assert "a.yaml:94  this  matches\n" in said
    assert "and 61 more that do not match; --json has them\n" in said


EFFECTIVE = """\
project   x (rules.yaml:10)
          tenant acme, kind ai_gateway
policies  policy pii-stays-in (rules.yaml:14): for zone external; guardrails pii
          project x (rules.yaml:10): allows regions eu
at times  policy no-o1 (rules.yaml:15): refuses; when model o1*
          policy of-acme (rules.yaml:16): allows providers *; when tenant acme
routes    keyed (rules.yaml:21): header.authorization (not shown)
          x-4o (rules.yaml:22): model gpt-4o, gpt-4o-2*
          big (rules.yaml:31): when request.max_tokens > 1000
          closed (rules.yaml:32): operation embeddings
models    fast
targets   eu/my-4o       external eu  may be asked
          groq/*         external  never asked: project x (rules.yaml:10): region unknown is not one of eu
          groq/llama     external  never asked: project x (rules.yaml:10): region unknown is not one of eu
          openai/*       external  never asked: project x (rules.yaml:10): region unknown is not one of eu
          openai/gpt-4o  external  never asked: project x (rules.yaml:10): region unknown is not one of eu
"""


def test_all_that_holds_for_a_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--effective", "project/x") == 0
    assert capsys.readouterr().out == EFFECTIVE


def test_what_a_call_may_ask_for_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text("client_may: {retries: 3}\nprojects: {z: {client_may: {retries: 1, fallback: [gpt-4o]}}}\n")
    assert run(folder, "--effective", "project/z") == 0
    assert 'may ask   fallback ["gpt-4o"], retries 1\n' in capsys.readouterr().out
    assert run(folder, "--effective", "project/y") == 0
    assert "may ask   retries 3\n" in capsys.readouterr().out
    asked = document(folder, f'{{"model": "zzz", {HELLO}}}', capsys)["client_may"]
    assert (asked["retries"], asked["fallback"], asked["name_provider"]) == (3, True, False)


def test_what_holds_for_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--effective", "project/y", "--json") == 0
    answer = orjson.loads(capsys.readouterr().out)
    assert [each["name"] for each in answer["policies"]] == ["policy pii-stays-in", "policy not-for-x"]
    assert [each["name"] for each in answer["policies_for_some_calls"]] == ["policy no-o1"], "its tenant is another"
    assert [each["route"] for each in answer["routes"]] == ["keyed", "big", "closed"]
    assert all(each["verdict"] == "kept" for each in answer["targets"])
    assert run(folder, "--effective", "project/unknown") == 0
    assert capsys.readouterr().out.startswith("project   unknown\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "request.json is not JSON: EOF while parsing an object at line 1 column 1; write a body such as {"),
        ('{"model": NaN}', "request.json is not JSON: "),
        ('{"model": "a", "model": "b"}', "request.json is not JSON: Detected duplicate key"),
        ("[]", "request.json is no JSON object; write a body such as {"),
        ('{"url": "/v1/models", "clinet": "x"}',
         "the request is none: unknown key `clinet`; did you mean `client`?"
         " A request has body, client, headers, method, proxy_user, url; write"),
        ('{"body": {"model": "a"}, "header": {"x-app": "x"}}',
         "the request is none: unknown key `header`; did you mean `headers`?"),
        ('{"url": "/v1/models", "model": "a"}', "the request is none: unknown key `model`: a request has body, client,"),
        ('{"url": "v1/models"}',
         "the request is none: `url` must be a path such as /v1/chat/completions, or an http or https URL;"),
        ('{"url": "ftp://a.example/x"}', "the request is none: `url` must be a path such as /v1/chat/completions, or an http"),
        ('{"url": "http://[/"}', "the request is none: `url` is none: "),
        ('{"url": "http://a b/"}', "the request is none: `url` is none: "),
        ('{"url": "/v1/models", "client": "laptop"}', "the request is none: `client` must be an address such as 10.1.2.3;"),
        ('{"url": "/v1/models", "headers": []}', "the request is none: `headers` must be a map of names to texts;"),
        ('{"url": 5}', "the request is none: `url`, `method`, `client` and `proxy_user` must be texts;"),
    ],
)  # fmt: skip
def test_what_is_no_request(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, content: str, said: str
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("request.json").write_text(content)
    assert run(folder, "request.json") == 2
    out, err = capsys.readouterr()
    assert (out, err[: len("mitmgate explain: ") + len(said)]) == ("", f"mitmgate explain: {said}")
    assert "write a body such as" in err


def test_wrong_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = folder / "missing"
    for arguments, said in (
        ((missing, "x"), f"there is no folder {missing}"),
        ((folder,), "name a request, mitmgate explain DIR REQUEST.json, or --effective project/NAME"),
        ((folder, missing), f"{missing} cannot be read: No such file or directory"),
        ((folder, folder), f"{folder} cannot be read: Is a directory"),
        ((folder, "--effective", "x"), "--effective takes project/NAME"),
        ((folder, "--effective", "project/unknwon"), "no project `unknwon` stands under `projects`; did you mean `unknown`?"),
        ((folder, "--effective", "project/zz"), "no project `zz` stands under `projects`; there are x, y, unknown"),
    ):
        assert run(*arguments) == 2
        assert capsys.readouterr() == ("", f"mitmgate explain: {said}\n")


def test_invalid_rules(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rules.yaml").write_text("version: 1\nroutes: [{name: a}]\n")
    (folder / "r.json").write_text("{}")
    assert run(folder, folder / "r.json") == 1
    assert capsys.readouterr() == ("", "rules.yaml:2:10: routes[0].targets: missing\n")
    assert run(folder, folder / "r.json", "--json") == 1
    assert orjson.loads(capsys.readouterr().out) == {
        "valid": False,
        "problems": [{"file": "rules.yaml", "line": 2, "column": 10, "path": "routes[0].targets", "message": "missing"}],
    }
    (folder / "rules.yaml").write_text(
        "version: 1\nproviders: {groq: {disabled: true}}\nroutes: [{name: a, targets: [{provider: groq}]}]\n"
    )
    assert run(folder, folder / "r.json") == 1
    assert "a has no active target" in capsys.readouterr().err


def test_what_came_from_the_environment_is_shown_by_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "a-secret-token")
    monkeypatch.setenv("SHORT", "eu")
    (folder / "a.yaml").write_text("""\
routes:
- {name: secret, match: {header: {x-code: "${TOKEN}"}}, targets: [{provider: groq}]}
- {name: "when", match: {when: "header['x-code'] == '${TOKEN}!'"}, targets: [{provider: groq}]}
- {name: hidden, match: {header: {x-token: "${TOKEN}"}}, targets: [{provider: groq}]}
- {name: short, match: {header: {x-region: "${SHORT}"}}, targets: [{provider: groq}]}
- {name: all, match: {model: x}, targets: [{provider: groq}], set: {key: "${TOKEN}", list: ["${TOKEN}2"]}}
""")
    headers = '{"x-code": "no", "x-token": "hush"}'
    body = f'{{"url": "/v1/chat/completions", "headers": {headers}, "body": {{"model": "x", {HELLO}}}}}'
    said = told(folder, body, capsys)
    assert "header.x-code: wants ${TOKEN}; the request has `no`" in said
    assert "header['x-code'] == '${TOKEN}!': it is false" in said
    assert "header.x-region: wants eu; the request has none" in said
    assert "header.x-token: wants (not shown); the request has (not shown)" in said
    assert 'set: key="${TOKEN}", list=["${TOKEN}2"]' in said
    assert document(folder, body, capsys)["parameters"]["set"] == {"key": "${TOKEN}", "list": ["${TOKEN}2"]}
    assert run(folder, "--effective", "project/y") == 0
    assert "a-secret-token" not in capsys.readouterr().out


def test_the_page_shows_what_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    (tmp_path / "request.json").write_text('{"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}')
    assert run(root / "rules" / "examples" / "eu-residency", tmp_path / "request.json") == 0
    assert f"```text\n{capsys.readouterr().out}```" in (root / "docs" / "testing-rules.md").read_text(encoding="utf-8")


def test_a_route_of_a_team(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "teams").mkdir()
    (folder / "teams" / "y.yaml").write_text(
        "scope: {project: [x]}\nroutes: [{name: theirs, targets: [{provider: eu}]}]\n"
        "models: {own: {targets: [{provider: eu}]}}\n"
    )
    said = told(folder, f'{{"model": "zzz", {HELLO}}}', capsys)
    assert "y/theirs  no: scope: wants x; the request has `unknown`\n" in said
    said = told(folder, f'{X} "body": {{"model": "zzz", {HELLO}}}}}', capsys)
    assert "teams/y.yaml:2  y/theirs  matches\n" in said
    assert run(folder, "--effective", "project/x") == 0
    said = capsys.readouterr().out
    assert "y/theirs (teams/y.yaml:2)\n" in said
    assert "models    fast, own\n" in said


def test_a_target_that_takes_any_model_may_be_asked_for_those_that_are_allowed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.yaml").write_text("policies: [{name: few, allow: {models: [gpt-*]}}]\n")
    assert run(folder, "--effective", "project/y") == 0
    said = capsys.readouterr().out
    assert "openai/*    external  may be asked, for models gpt-*\n" in said
    assert "groq/llama  external  never asked: policy few (a.yaml:1): model llama is not one of gpt-*\n" in said
