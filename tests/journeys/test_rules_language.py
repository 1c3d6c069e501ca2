"""The rules' language through the real gateway: projects, aliases, policies, conditions, teams, sticky targets."""

from typing import Any

import httpx
import pytest

from rig import behaviours as does
from rig.clients import CLIENT_KEY, plain, trust
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def servers(upstream: StartUpstream) -> dict[str, Upstream]:
    return {name: upstream(*[does.answer(does.completion(name))] * 40) for name in ("us", "eu", "house")}


@pytest.fixture
def house(gateway: StartGateway, servers: dict[str, Upstream]) -> Gateway:
    def provider(name: str, **more: Any) -> dict[str, Any]:
        return {"dialect": "openai", "base_url": servers[name].base_url, "zone": "internal", **more}

    main = {
        "intercept": ["api.openai.com"],
        "providers": {"us": provider("us", region="us"), "eu": provider("eu", region="eu"), "house": provider("house")},
        "projects": {
            "residents": {"allow": {"regions": ["eu"]}, "identify": {"proxy_user": "residents"}},
            "support": {"identify": {"header": {"x-app": "support"}}},
            "lab": {},
        },
        "aliases": {"gpt-4": "gpt-4o"},
        "policies": [
            {"name": "long-stays", "match": {"when": "size(request.messages) > 2"}, "allow": {"providers": ["house"]}},
            {"name": "no-secrets", "match": {"tag": {"kind": "secret"}}, "refuse": {"message": "Not through here."}},
        ],
        "routes": [
            {"name": "pinned", "match": {"header": {"x-session-id": "*"}}, "sticky": "header:x-session-id",
             "strategy": "weighted", "targets": [{"provider": "us"}, {"provider": "eu"}, {"provider": "house"}]},
            {"name": "support", "match": {"project": "support"}, "targets": [{"provider": "house", "model": "llama"}]},
            {"name": "gone", "match": {"model": "old*"}, "refuse": {"status": 410, "message": "That model is gone."}},
            {"name": "all", "match": {"model": "gpt-4o", "not": {"path": "/v1/embeddings"}},
             "targets": [{"provider": "us"}], "fallback": [{"provider": "eu"}, {"provider": "house"}]},
        ],
    }  # fmt: skip
    return gateway(main)


def chat(gateway: Gateway, model: str = "gpt-4o", headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    with plain(gateway) as client:
        body = {"model": model, "messages": MESSAGES, **more}
        return client.post("/chat/completions", json=body, headers={"authorization": f"Bearer {CLIENT_KEY}", **(headers or {})})


def served(response: httpx.Response) -> tuple[int, str | None, str | None]:
    return response.status_code, response.headers.get("x-gateway-route"), response.headers.get("x-gateway-provider")


def test_an_alias_reaches_the_provider(house: Gateway, servers: dict[str, Upstream]) -> None:
    response = chat(house, "gpt-4")
    assert served(response) == (200, "all", "us")
    assert response.headers["x-model-used"] == "gpt-4o"
    assert servers["us"].requests[-1].json()["model"] == "gpt-4o"


def test_policies_and_refusals(house: Gateway, servers: dict[str, Upstream]) -> None:
    assert served(chat(house, messages=MESSAGES * 3)) == (200, "all", "house")
    refused = chat(house, gateflow={"tags": {"kind": "secret"}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "refused")
    assert refused.json()["error"]["message"] == "Not through here."
    gone = chat(house, "old-one")
    assert (gone.status_code, gone.json()["error"]["message"]) == (410, "That model is gone.")
    assert len(servers["us"].requests) == len(servers["eu"].requests) == 0


def test_a_project_by_header(house: Gateway) -> None:
    response = chat(house, headers={"x-app": "support"})
    assert served(response) == (200, "support", "house")
    assert response.headers["x-model-used"] == "llama"


def test_residency_through_the_proxy(house: Gateway, servers: dict[str, Upstream]) -> None:
    """An unchanged application is known by its proxy's user; neither route nor fallback nor its own words leave the EU."""
    address = house.proxy_url.replace("://", "://residents:anything@")
    with httpx.Client(base_url="https://api.openai.com/v1", proxy=address, verify=trust(house), trust_env=False) as client:
        headers = {"authorization": f"Bearer {CLIENT_KEY}"}
        response = client.post("/chat/completions", json={"model": "gpt-4o", "messages": MESSAGES}, headers=headers)
        assert served(response) == (200, "all", "eu")
        other = client.post("/chat/completions", json={"model": "another", "messages": MESSAGES}, headers=headers)
        assert (other.status_code, other.json()["error"]["code"]) == (403, "model_not_allowed")
    assert chat(house, "us/gpt-4o", project_id="residents").status_code == 200      # the name alone does not make a resident
    assert len(servers["us"].requests) == 1


def test_a_session_stays_and_sessions_spread(house: Gateway) -> None:
    seen = {
        session: {chat(house, headers={"x-session-id": f"s{session}"}).headers["x-gateway-provider"] for _ in range(2)}
        for session in range(12)
    }
    assert all(len(providers) == 1 for providers in seen.values())
    assert len(set.union(*seen.values())) > 1
