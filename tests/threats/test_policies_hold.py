"""THREATS, rows 1 and 3: no spelling of a request walks past a policy or a project's `allow:`. By the real stages."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from mitmgate.errors import Refusal
from mitmgate.rehearsal import Rehearsed, rehearse_now, rules_alone
from mitmgate.rules.loader import load
from mitmgate.rules.positions import RulesError

MESSAGES = [{"role": "user", "content": "hi"}]
PROVIDERS = """\
version: 1
intercept: [us.test, eu.test]
providers:
  us: {base_url: "https://us.test/v1", credential: {value: k}, region: us}
  eu: {base_url: "https://eu.test/v1", credential: {value: k}, region: eu}
"""


def asked(folder: Path, rules: str, request: dict[str, Any]) -> Rehearsed:
    (folder / "rules.yaml").write_text(PROVIDERS + rules, encoding="utf-8")
    return rehearse_now(request, rules_alone(folder, {}))


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": MESSAGES, **more}


def proxied(url: str, body: Any = None, **more: Any) -> dict[str, Any]:
    return {"url": f"https://us.test{url}", "body": chat() if body is None else body, **more}


def code(found: Rehearsed) -> str | None:
    assert found.untouched is None, found.untouched
    return found.refusal.code if isinstance(found.refusal, Refusal) else None


@pytest.mark.parametrize(
    "body", [chat(user="bob"), chat(), chat(user=1), chat(user=None), chat(user="bob", tools=[1] * 31_000)]
)
def test_a_condition_under_not_that_cannot_be_evaluated(tmp_path: Path, body: dict[str, Any]) -> None:
    rules = (
        "policies: [{name: p, match: {not: {when: 'request.user == \"admin\" && size(request.tools) < 9'}}, "
        "refuse: {message: m}}]\n"
        "routes: [{name: all, targets: [{provider: us}]}]\n"
    )
    assert code(asked(tmp_path, rules, body)) == "refused"
    assert code(asked(tmp_path, rules, chat(user="admin"))) is None


CLINIC = (
    "projects: {clinic: {identify: {client: 10.0.0.0/8}, allow: {regions: [eu]}}}\n"
    "routes: [{name: chats, match: {operation: chat}, targets: [{provider: eu}]}, "
    "{name: no, match: {path: /v9/*, project: clinic}, refuse: {message: m}}]\n"
)


@pytest.mark.parametrize(
    "url", ["/chat/completions", "/v1beta/models/o3:countTokens", "/v9/x", "/v1/embeddings", "/realtime?model=o3", "/"]
)
def test_a_project_on_paths_that_no_api_has(tmp_path: Path, url: str) -> None:
    found = asked(tmp_path, CLINIC, proxied(url, client="10.1.2.3"))
    assert code(found) == ("refused" if url == "/v9/x" else "model_not_allowed")


@pytest.mark.parametrize(
    "policy",
    [
        "match: {model: m}, refuse: {message: m}", "match: {tag: {a: b}}, refuse: {message: m}",
        "match: {tenant: t}, refuse: {message: m}", "match: {when: request.stream}, refuse: {message: m}",
        "match: {not: {model: x}}, refuse: {message: m}", "match: {project: p}, allow: {regions: [eu]}",
    ],
)  # fmt: skip
def test_what_the_body_decides_is_waited_for(tmp_path: Path, policy: str) -> None:
    body = chat(stream=True, tenantId="t", project_id="p", gateflow={"tags": {"a": "b"}})
    rules = f"projects: {{p: {{}}}}\npolicies: [{{name: x, {policy}}}]\n"
    assert code(asked(tmp_path, rules, proxied("/chat/completions", body))) in ("refused", "model_not_allowed")


def test_built_in_nothing_lets_nothing_through(tmp_path: Path) -> None:
    rules = "builtin_routes: []\nroutes: [{name: e, match: {operation: embeddings}, targets: [{provider: us}]}]\n"
    for url in ("/v1/chat/completions", "/chat/completions", "/anything"):
        assert code(asked(tmp_path, rules, proxied(url))) == "refused"


SMALL = (
    "policies: [{name: p, allow: {models: [small*]}}]\n"
    "routes: [{name: r, match: {operation: [other, image, responses]}, targets: [{provider: us, model: small}]}]\n"
)


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/json", "application/problem+json", "application/x-www-form-urlencoded", "multipart/mixed", ""]
)
@pytest.mark.parametrize("url", ["/v1/fim/completions", "/v1/images/edits", "/v1/responses/compact"])
def test_a_body_that_is_not_read_names_no_model(tmp_path: Path, url: str, kind: str) -> None:
    raw = orjson.dumps({"model": "o3", "prompt": "x"}).decode()
    request = {"url": url, "body": raw, "headers": {"content-type": kind} if kind else {}}
    assert code(asked(tmp_path, SMALL, request)) == "unsupported_media_type"
    alone = SMALL.partition("\n")[2]                    # the target's own model is reason enough
    assert code(asked(tmp_path, alone, request)) == "unsupported_media_type"


def test_a_body_that_is_not_read_may_go_where_no_rule_names_a_model(tmp_path: Path) -> None:
    rules = "routes: [{name: r, match: {operation: other}, targets: [{provider: us}]}]\n"
    request = {"url": "/v1/fim/completions", "body": "x", "headers": {"content-type": "text/plain"}}
    assert asked(tmp_path, rules, request).models == ("us/*",)


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("routes: [{name: r, set: {model: o3}, targets: [{provider: us}]}]", "routes[0].set.model"),
        ("routes: [{name: r, default: {Model: o3}, targets: [{provider: us}]}]", "routes[0].default.Model"),
        ("routes: [{name: r, targets: [{provider: us, set: {model: o3}}]}]", "routes[0].targets[0].set.model"),
    ],
)
def test_no_rule_sets_a_model_behind_the_policies(tmp_path: Path, written: str, place: str) -> None:
    (tmp_path / "rules.yaml").write_text(f"{PROVIDERS}{written}\n", encoding="utf-8")
    with pytest.raises(RulesError) as caught:
        load(tmp_path, {})
    (problem,) = caught.value.problems
    assert (problem.path, problem.message) == (place, "a model is not set here: write `model:` in the target")


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("/openai/deployments/gpt-4/chat/completions", {}),
        ("/v1/realtime?model=gpt-4", {"method": "GET", "headers": {"upgrade": "websocket"}}),
    ],
)
def test_an_alias_does_not_rename_what_the_address_says(tmp_path: Path, url: str, more: dict[str, Any]) -> None:
    rules = 'aliases: {gpt-4: gpt-4o-mini}\npolicies: [{name: p, allow: {models: ["*-mini"]}}]\n'
    request = {**proxied(url), **more}
    if "headers" in more:
        del request["body"]
    assert code(asked(tmp_path, rules, request)) == "model_not_allowed"


@pytest.mark.parametrize("url", ["http://us.test/v1/chat/completions", "https://us.test:8443/v1/chat/completions"])
@pytest.mark.parametrize("policy", ["for: {provider: us}, refuse: {message: m}", "for: {region: us}, refuse: {message: m}"])
def test_another_port_or_scheme_is_the_same_provider(tmp_path: Path, url: str, policy: str) -> None:
    assert code(asked(tmp_path, f"policies: [{{name: p, {policy}}}]\n", {"url": url, "body": chat()})) == "model_not_allowed"


@pytest.mark.parametrize(("path", "allowed"), [("/us/v1", False), ("/eu/v1", True), ("/v1", False)])
def test_two_providers_at_one_address(tmp_path: Path, path: str, allowed: bool) -> None:
    rules = PROVIDERS.replace("us.test/v1", "us.test/us/v1").replace("https://eu.test/v1", "https://us.test/eu/v1")
    (tmp_path / "rules.yaml").write_text(f"{rules}policies: [{{name: p, allow: {{regions: [eu]}}}}]\n", encoding="utf-8")
    found = rehearse_now(proxied(f"{path}/chat/completions"), rules_alone(tmp_path, {}))
    assert code(found) == (None if allowed else "model_not_allowed")


def test_a_deployment_is_what_it_is_for_every_way_in(tmp_path: Path) -> None:
    rules = PROVIDERS.replace("region: us}", "region: us, base_model: o3}")
    policy = 'policies: [{name: p, for: {model: "o3*"}, refuse: {message: m}}]\n'
    route = "routes: [{name: r, match: {model: d}, targets: [{provider: us}]}]\n"
    (tmp_path / "rules.yaml").write_text(rules + policy + route, encoding="utf-8")
    snapshot = rules_alone(tmp_path, {})
    for request in (chat(model="d"), chat(model="us/d1"), proxied("/v1/chat/completions", chat(model="x"))):
        assert code(rehearse_now(request, snapshot)) == "model_not_allowed"


def test_the_model_of_a_condition_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    rules = (
        "policies: [{name: p, match: {when: 'request.model.startsWith(\"o3\")'}, refuse: {message: m}}]\n"
        "routes: [{name: r, targets: [{provider: us}]}]\n"
    )
    request = {"url": "/openai/deployments/o3/chat/completions", "body": chat(model="m1")}
    assert code(asked(tmp_path, rules, request)) == "refused"


@pytest.mark.parametrize("query", ["deployment=gpt-5", "Model=gpt-5", "model=gpt-5", ""])
def test_a_model_that_is_not_seen_is_not_another(tmp_path: Path, query: str) -> None:
    rules = "policies: [{name: p, for: {model: gpt-5}, refuse: {message: m}}]\n"
    request = {"url": f"https://us.test/v1/realtime?{query}", "method": "GET", "headers": {"upgrade": "websocket"}}
    assert code(asked(tmp_path, rules, request)) == "model_not_allowed"


def test_auto_is_no_way_into_a_route(tmp_path: Path) -> None:
    rules = "projects: {legal: {}}\nroutes: [{name: l, match: {project: legal}, targets: [{provider: us, model: o3}]}]\n"
    assert code(asked(tmp_path, rules, {"messages": MESSAGES})) == "model_not_found"
