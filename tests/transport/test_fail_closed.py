"""A bug of ours, anywhere: the client hears of it, and no provider saw the request, or the client nothing of the reply."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mitmgate.pipeline import Pipeline
from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartUpstream

RAISING = str(Path(__file__).parents[1] / "rig" / "raising.py")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
STAGES = tuple(stage.__name__ for phase in (Pipeline().arrival, Pipeline().inbound, Pipeline().attempt) for stage in phase)


class Broken:
    """A gateway with a bug in one place, before two upstreams."""

    def __init__(self, folder: Path, place: str, first: Upstream, second: Upstream) -> None:
        providers = {
            name: {"dialect": "openai", "base_url": f"http://127.0.0.1:{up.port}/v1", "credential": {"value": "sk-1"}}
            for name, up in (("first", first), ("second", second))
        }
        route = {
            "name": "both", "targets": [{"provider": "first"}], "fallback": [{"provider": "second"}],
            "retry": {"max": 0}, "timeout": {"connect": "2s", "first_token": "2s", "idle": "2s", "total": "8s"},
        }
        rules = {"providers": providers, "routes": [route]}
        self.first, self.second = first, second
        self.gateway = Gateway(folder, rules, env={"RAISE_IN": place}, program=(RAISING,))

    def chat(self, *, stream: bool) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=10) as client:
            return client.post(f"{self.gateway.base_url}/chat/completions", json={**CHAT, "stream": stream})


@pytest.fixture
def broken(request: pytest.FixtureRequest, tmp_path: Path, upstream: StartUpstream) -> Iterator[Broken]:
    place, first = request.param
    made = Broken(tmp_path, place, upstream(first()), upstream(does.ok("from the second")))
    yield made
    assert made.gateway.stop() == 0
    assert "a bug of ours" in made.gateway.errors()


def params(*places: str, first: object = does.ok) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("broken", [(place, first) for place in places], indirect=True, ids=places)


@params(
    *(f"stage:{name}" for name in STAGES),
    "name:mitmgate.addon.recognise",
    "name:mitmgate.bridge.exchange_of",
    "name:mitmgate.bridge.arrival_of",
    "name:mitmgate.bridge.permit_of",
    "name:mitmgate.transport.attempts.build_request",
)
@pytest.mark.parametrize("stream", [False, True])
def test_nothing_goes_upstream(broken: Broken, stream: bool) -> None:
    reply = broken.chat(stream=stream)
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "gateway_error"
    assert not broken.first.requests
    assert not broken.second.requests


@params("name:mitmgate.transport.ways.Ways._dial")
def test_no_connection_is_made(broken: Broken) -> None:
    """mitmproxy swallows an exception in `server_connect` and connects."""
    assert broken.chat(stream=False).status_code == 502
    assert broken.first.untouched
    assert broken.second.untouched


@params("stage:translate:2", "stage:authorise:2", "name:mitmgate.addon.next_step", first=lambda: does.status(500))
@pytest.mark.parametrize("stream", [False, True])
def test_the_second_target_sees_nothing(broken: Broken, stream: bool) -> None:
    reply = broken.chat(stream=stream)
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "gateway_error"
    assert len(broken.first.requests) == 1
    assert not broken.second.requests


def refused(reply: httpx.Response) -> bool:
    """500 of ours, and nothing of what the provider said."""
    own = reply.status_code == 500 and json.loads(reply.content)["error"]["code"] == "gateway_error"
    return own and b"from the first" not in reply.content and b"delta" not in reply.content


HANDLING = ("name:mitmgate.bridge.dress", "name:mitmgate.bridge.stamp", "name:mitmgate.transport.replies.ReplyStream.frame")


@params(*HANDLING, "name:mitmgate.dialects.openai.reading.OpenAIReader.body", first=lambda: does.ok("from the first"))
def test_a_reply_that_cannot_be_handled_does_not_pass(broken: Broken) -> None:
    assert refused(broken.chat(stream=False))


@params(
    "name:mitmgate.transport.collected.Collected.read", "name:mitmgate.addon.Gateway.large_reply",
    first=lambda: does.ok("from the first" * 100_000),
)  # fmt: skip
def test_a_large_reply_that_cannot_be_read_does_not_pass(broken: Broken) -> None:
    """It is read in a thread, by a hook: mitmproxy logs what a hook raises, and goes on."""
    assert refused(broken.chat(stream=False))


@params(*HANDLING, "name:mitmgate.dialects.openai.reading.OpenAIReader.event")
def test_a_stream_that_cannot_be_handled_does_not_pass(broken: Broken) -> None:
    assert refused(broken.chat(stream=True))
