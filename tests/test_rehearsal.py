"""Rehearsing and explaining say what the gateway does: in properties over rules and requests, and against a live one."""

import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mitmgate.explanation import Explanation, effective, explain
from mitmgate.rehearsal import Rehearsed, RequestError, afresh, rehearse_now, rules_alone
from mitmgate.routing.constraints import objection
from mitmgate.runtime import Snapshot
from mitmgate.stages.match_route import asked, names_auto, renamed
from rig.gateway import Gateway
from rig.starts import StartGateway

# Few words, so that rules and requests meet.
MODELS = ("m", "mm", "gpt-4o", "fast", "slow", "a/m", "auto")
GLOBS = ("m", "m*", "*4o", "gpt-?o", "fast", "*", "?m")
APPS = ("x", "y", "z")
PROVIDERS = ("a", "b", "c")
CONDITIONS = (
    "request.stream", "size(request.messages) > 1", "request.max_tokens > 10", "request.nothing == 1", "project == 'p'",
    "'tools' in request.given", "header['x-app'] == 'x'", "tag['team'] == 'red'", "request.temperature < 0.5",
)  # fmt: skip
type Draw = random.Random
"""Rules and requests are made of one seeded source, so that the live test can have its own without hypothesis."""


def some(draw: Draw, words: Sequence[str]) -> Any:
    """One word or a list of them."""
    several = [draw.choice(words) for _ in range(draw.randint(1, 2))]
    return several[0] if len(several) == 1 and draw.random() < 0.5 else several


def match_of(draw: Draw, *, depth: int = 1, fewest: int = 0) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "model": some(draw, GLOBS),
        "operation": some(draw, ("chat", "embeddings", "completions")),
        "host": some(draw, ("127.0.0.1", "api.openai.com", "*")),
        "path": some(draw, ("/v1/*", "*/chat/completions", "/v1/embeddings", "/other")),
        "header": {draw.choice(("x-app", "X-Session")): some(draw, ("x", "y*", "?"))},
        "client": some(draw, ("10.0.0.0/8", "127.0.0.0/8")),
        "project": some(draw, ("p", "q", "un*")),
        "tenant": some(draw, ("acme", "*")),
        "task": some(draw, ("batch", "b*")),
        "tag": {"team": some(draw, ("red", "b*"))},
        "when": draw.choice([each for each in CONDITIONS if each != "request.nothing == 1"]),
    }
    chosen = draw.sample(sorted(keys), k=max(fewest, draw.choice((0, 1, 1, 2, 2, 3))))
    found = {key: keys[key] for key in chosen}
    if depth and draw.random() < 0.3:
        found["not"] = match_of(draw, depth=0, fewest=1)
    return found


def serving_of(draw: Draw, *, chance: bool) -> dict[str, Any]:
    def targets(fewest: int) -> list[dict[str, Any]]:
        found = []
        for _ in range(draw.randint(fewest, 2)):
            target: dict[str, Any] = {"provider": draw.choice(PROVIDERS), "weight": draw.choice((1, 2))}
            if draw.random() < 0.6:
                target["model"] = draw.choice(("m", "gpt-4o", "deployed", "$1-x"))
            if draw.random() < 0.2:
                target |= {"set": {"seed": 1}, "priority": draw.choice((0, 1))}
            found.append(target)
        return found

    if draw.random() < 0.1:
        return {"refuse": {"status": draw.choice((403, 410, 503)), "message": "No."}}
    found: dict[str, Any] = {"targets": targets(1)}
    if draw.random() < 0.3:
        found["sticky"] = draw.choice(("header:x-session", ["body:user", "conversation"]))
    if draw.random() < 0.5 and (chance or "conversation" in found.get("sticky", ())):
        found["strategy"] = draw.choice(("weighted", "round-robin") if chance else ("weighted",))
    if draw.random() < 0.4:
        found["fallback"] = targets(1)
    return found


def policy_of(draw: Draw, name: str) -> dict[str, Any]:
    policy: dict[str, Any] = {"name": name, "match": match_of(draw)}
    if draw.random() < 0.4:
        policy["for"] = draw.choice(({"zone": "internal"}, {"region": "eu"}, {"provider": ["a", "b"]}, {"model": "m*"}))
    if draw.random() < 0.2:
        policy["refuse"] = {"message": "Not here."}
    else:
        policy["allow"] = draw.choice(({"regions": "eu"}, {"providers": ["a", "c"]}, {"models": ["m*", "gpt-4o"]}))
    return policy


def rules_of(draw: Draw, *, chance: bool = True, routes: int = 5, keys: int = 0) -> dict[str, Any]:
    """Rules that load. `chance`: with strategies that depend on dice or turns; `keys`: of each route, at least."""
    document: dict[str, Any] = {
        "version": 1,
        "intercept": ["api.openai.com"],
        "providers": {
            "a": {"dialect": "simulator", "region": "eu"},
            "b": {"dialect": "simulator", "region": "us", "zone": "internal"},
            "c": {"dialect": "simulator"},
        },
        "projects": {
            "p": {"identify": {"header": {"x-app": "x"}}, "tenant": "acme"},
            "q": {"identify": {"header": {"x-app": "y*"}}},
        },
        "routes": [
            {"name": f"r{n}", "match": match_of(draw, fewest=keys), **serving_of(draw, chance=chance)}
            for n in range(draw.randint(0, routes))
        ],
        "models": {"fast": serving_of(draw, chance=chance), "slow": {"targets": [{"provider": "c", "model": "s"}]}},
        "policies": [policy_of(draw, f"p{n}") for n in range(draw.choice((0, 0, 1, 2)))],
        "aliases": {draw.choice(GLOBS): draw.choice(MODELS) for _ in range(draw.choice((0, 0, 1, 2)))},
    }
    if draw.random() < 0.3:
        document["projects"]["q"]["allow"] = {"providers": draw.choice((["b"], ["a", "c"]))}
    if draw.random() < 0.2:
        document["unmatched"] = "refuse"
    if draw.random() < 0.2:
        document["builtin_routes"] = draw.sample(("models", "provider", "auto", "original", "catalogue"), k=3)
    return document


def request_of(draw: Draw, *, live: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = {"model": draw.choice((*MODELS, "gpt-4o-mini"))}
    path = draw.choice(("/v1/chat/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/completions"))
    if path.endswith("chat/completions"):
        body["messages"] = [{"role": "user", "content": draw.choice(("a", "b", "c"))}] * draw.randint(1, 2)
    else:
        body |= {"input": "x"} if path.endswith("embeddings") else {"prompt": "x"}
    more: dict[str, Any] = {
        "max_tokens": draw.choice((5, 50)), "temperature": draw.choice((0.1, 1)), "user": draw.choice(("u", "v", "w")),
        "gateflow": {"tags": {"team": draw.choice(("red", "blue"))}}, "tools": [], "tenantId": "other",
    }  # fmt: skip
    body |= {key: more[key] for key in more if draw.random() < 0.3}
    named = {"x-app": APPS, "x-session": ("1", "2", "x"), "x-gateflow-task-type": ("batch", "n")}
    headers = {name: draw.choice(values) for name, values in named.items() if draw.random() < 0.5}
    request: dict[str, Any] = {"url": path, "headers": headers, "body": body}
    if not live:
        if draw.random() < 0.2:
            request["url"] = f"https://{draw.choice(('api.openai.com', 'example.com'))}{draw.choice((path, '/other'))}"
        if draw.random() < 0.2:
            request["client"] = "10.1.2.3"
        if draw.random() < 0.2:
            body["stream"] = True
        if draw.random() < 0.1:
            del body["model"]
        if draw.random() < 0.05:
            body["messages"] = []
    return request


def compiled(document: Mapping[str, Any], **fixed: Any) -> Snapshot:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rules.yaml").write_text(json.dumps(document))
        return rules_alone(Path(folder), {}, **fixed)


def story_of(request: Mapping[str, Any], snapshot: Snapshot) -> tuple[Rehearsed, Explanation]:
    rehearsed = rehearse_now(request, snapshot)
    return rehearsed, explain(rehearsed.exchange, snapshot, rehearsed.refusal, rehearsed.untouched)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**48), st.floats(0, 1, exclude_max=True))
@example(58_507, 0.0)                       # a policy for some models, and a body that names none
def test_explaining_never_disagrees_with_serving(seed: int, dice: float) -> None:
    draw = random.Random(seed)
    snapshot = compiled(rules_of(draw), draw=lambda: dice)
    for _ in range(12):
        request = request_of(draw)
        rehearsed, story = story_of(request, afresh(snapshot, draw=lambda: dice))
        exchange, table = rehearsed.exchange, snapshot.table
        again = story_of(request, afresh(snapshot, draw=lambda: dice))[1]
        assert again.document() == story.document(), "the same today and tomorrow"
        orjson.dumps(story.document())
        if exchange.chosen is None:
            assert (story.route, story.plan) == (None, ())
            assert rehearsed.refusal is not None or rehearsed.untouched is not None
            assert all(each.key is not None for each in story.tried)
            continue
        # The routes, looked at one after another, against matching with its index.
        looked_at = renamed(asked(exchange), table)
        chosen = table.choose(looked_at, direct=exchange.arrival.direct, names_auto=names_auto(exchange))
        assert (chosen.route if chosen else "original") == exchange.chosen.route == story.route
        assert [each.route for each in story.tried] == [route.chosen.route for route in table.routes[: len(story.tried)]]
        assert all(each.key is not None for each in story.tried[:-1])
        matched = bool(story.tried) and story.tried[-1].key is None
        assert matched == (story.by == "route")
        assert matched or len(story.tried) == len(table.routes)
        # The plan, and that what policies demand holds of it and was the reason for the rest.
        plan = exchange.plan
        if plan is None:
            assert exchange.chosen.refuse is not None
            continue
        kept = [each.target for each in story.plan if each.verdict == "kept"]
        if rehearsed.refusal is None:
            assert tuple(kept) == rehearsed.models
            assert rehearsed.sent is not None
            assert rehearsed.sent.get("model", exchange.model) == (plan.targets[0].model or exchange.model)
        everybody = sorted(target.key for target in (*exchange.chosen.targets, *exchange.chosen.fallback))
        assert sorted([t.key for t in plan.targets] + [each.target.key for each in plan.dropped]) == everybody
        doubt = exchange.body is not None       # a body may name a model where none was read
        for target in plan.targets:
            assert objection(exchange.constraints, target, target.model or exchange.model, doubt=doubt) is None
        for each in plan.dropped:
            said = objection(exchange.constraints, each.target, each.target.model or exchange.model, doubt=doubt)
            assert each.reason == (said or "it does not speak the dialect of this request")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**48))
@example(75_004)                            # a policy's models, and a target that takes any
def test_what_holds_for_a_project_holds_for_its_calls(seed: int) -> None:
    """`--effective` leaves out nothing that a call of the project meets, and what it calls certain is in force."""
    draw = random.Random(seed)
    snapshot = compiled(rules_of(draw))
    views = {name: effective(name, snapshot) for name in ("p", "q", "unknown")}
    for _ in range(15):
        rehearsed, story = story_of(request_of(draw), snapshot)
        exchange = rehearsed.exchange
        if story.untouched is not None or (exchange.chosen is None and not exchange.constraints):
            continue
        view = views[exchange.project]
        certain = {each["name"] for each in view["policies"]}
        possible = certain | {each["name"] for each in view["policies_for_some_calls"]}
        assert certain <= {each["name"] for each in story.policies} <= possible
        if story.by == "route":
            assert story.route in {each["route"] for each in view["routes"]}
        if story.by in ("route", "models") and rehearsed.refusal is None:
            allowed = {each["target"].partition("/")[0] for each in view["targets"] if each["verdict"] == "kept"}
            assert {each.partition("/")[0] for each in rehearsed.models} <= allowed


# A live gateway, its simulator behind every provider.


# Seeds whose rules give many different answers.
LIVE = rules_of(random.Random(32), chance=False) | {
    "aliases": {"mm": "fast"},
    "routes": [
        route | {"name": f"{route['name']}-{seed}"}
        for seed in range(32, 40)
        for route in rules_of(random.Random(seed), chance=False, keys=2)["routes"]
    ],
}


@pytest.fixture(scope="module")
def served(shared_gateway: StartGateway) -> Gateway:
    return shared_gateway({key: value for key, value in LIVE.items() if key != "version"})


def live(client: httpx.Client, request: Mapping[str, Any]) -> tuple[int, str | None, str | None, str | None]:
    """Status, route, who answered (None: nobody was asked) and the code of a refusal."""
    reply = client.post(request["url"], json=request["body"], headers=request["headers"])
    provider, model = reply.headers.get("x-gateway-provider"), reply.headers.get("x-gateway-model")
    code = reply.json()["error"]["code"] if reply.status_code >= 400 else None
    return reply.status_code, reply.headers.get("x-gateway-route"), f"{provider}/{model}" if provider else None, code


def rehearsed_as(request: Mapping[str, Any], snapshot: Snapshot) -> tuple[int, str | None, str | None, str | None]:
    rehearsed, story = story_of(request, afresh(snapshot))
    if (refusal := rehearsed.refusal) is not None:
        return refusal.status, story.route, None, refusal.code
    return 200, story.route, rehearsed.models[0], None


def test_a_live_gateway_does_what_was_rehearsed(served: Gateway) -> None:
    snapshot = compiled(LIVE)
    draw = random.Random(7)
    seen = set()
    with httpx.Client(base_url=served.origin, trust_env=False, timeout=10) as client:
        for _ in range(150):
            request = request_of(draw, live=True)
            told = rehearsed_as(request, snapshot)
            assert live(client, request) == told, request
            seen.add((told[0], told[1]))
    assert len(seen) > 12
    assert {200, 403, 404, 410} <= {status for status, _ in seen}, "rules and requests must meet"


# Single things.


RULES: Mapping[str, Any] = {
    "version": 1,
    "listen": {"hosts": ["gateway.corp"]},
    "intercept": ["api.openai.com"],
    "providers": {"openai": {}, "groq": {}},
    "routes": [
        {"name": "turns", "match": {"model": "t"}, "strategy": "round-robin",
         "targets": [{"provider": "openai"}, {"provider": "groq"}]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "path", "operation", "direct"),
    [
        ({"messages": []}, "/v1/chat/completions", "chat", True),
        ({"model": "m", "input": "x"}, "/v1/embeddings", "embeddings", True),
        ({"prompt": "x"}, "/v1/completions", "completions", True),
        ({"query": "x", "documents": []}, "/v1/rerank", "rerank", True),
        ({"input": "x", "voice": "v"}, "/v1/audio/speech", "speech", True),
        ({}, "/v1/chat/completions", "chat", True),
        ({"url": "/v1/models?x=y"}, "/v1/models", "models", True),
        ({"url": "/v1/%6dodels/"}, "/v1/models", "models", True),
        ({"url": "http://127.0.0.1:1/v1/models"}, "/v1/models", "models", True),
        ({"url": "http://Gateway.corp/v1/models"}, "/v1/models", "models", True),
        ({"url": "https://API.openai.com/v1/files"}, "/v1/files", "files", False),
        ({"url": "https://api.openai.com"}, "/", "other", False),
        ({"body": {"model": "m"}, "headers": {"a": 1}}, "/v1/chat/completions", "chat", True),
    ],
)
def test_where_a_request_goes_that_does_not_say_all(
    request_: Mapping[str, Any], path: str, operation: str, direct: bool
) -> None:
    exchange = rehearse_now(request_, compiled(RULES)).exchange
    assert exchange.endpoint is not None
    assert (exchange.arrival.path, exchange.endpoint.operation, exchange.arrival.direct) == (path, operation, direct)


def test_a_body_that_has_a_member_called_body_is_a_body_all_the_same() -> None:
    assert rehearse_now({"body": "x", "model": "t", "messages": []}, compiled(RULES)).exchange.requested_model == "t"


@pytest.mark.parametrize("request_", [{"url": ""}, {"url": "v1"}, {"url": "https:///x"}, {"url": "/v1", "client": ""}])
def test_what_is_no_request(request_: Mapping[str, Any]) -> None:
    with pytest.raises(RequestError):
        rehearse_now(request_, compiled(RULES))


def test_a_body_is_sent_as_it_is_written() -> None:
    refusal = rehearse_now({"url": "/v1/chat/completions", "body": '{"model": "t", "model": "u"}'}, compiled(RULES)).refusal
    assert refusal is not None
    assert refusal.code == "unsupported_media_type"
    headers = {"Content-Type": "application/json"}
    refusal = rehearse_now(
        {"url": "/v1/chat/completions", "headers": headers, "body": '{"model": "t", "model": "u"}'}, compiled(RULES)
    ).refusal
    assert refusal is not None
    assert refusal.code == "invalid_request"


def test_each_rehearsal_is_a_turn_unless_rules_are_afresh() -> None:
    snapshot = compiled(RULES)
    request = {"model": "t", "messages": [{"role": "user", "content": "x"}]}
    assert rehearse_now(request, snapshot).models == ("openai/t", "groq/t")
    assert rehearse_now(request, snapshot).models == ("groq/t", "openai/t")
    assert rehearse_now(request, afresh(snapshot)).models == ("openai/t", "groq/t")


def test_the_clock_stands_where_it_is_told() -> None:
    snapshot = compiled(RULES, at=1_800_000_000.0)
    assert rehearse_now({"messages": []}, snapshot).exchange.started_at == 1_800_000_000.0
    assert rehearse_now({"messages": []}, afresh(snapshot)).exchange.started_at == 1_767_225_600.0


@pytest.mark.parametrize("url", ["//", "//evil.example/v1/models", "/v1/../x", "/v1/models#x", "/v1/a\nb", "/v1/%2e%2e/x"])
def test_a_path_that_can_be_read_in_two_ways_is_refused_as_it_is_live(url: str) -> None:
    rehearsed = rehearse_now({"url": url}, compiled(RULES))
    assert rehearsed.refusal is not None
    assert rehearsed.refusal.code == "invalid_request"
    assert rehearsed.refusal.message.startswith("The path is ambiguous: ")
