"""THREATS row 7: DNS that answers one thing when it is asked about and another when it is dialled.

`Ways` with a resolver that the test writes, and mitmproxy's own connection objects; what would be dialled is what
`server_connect` leaves in `server.address`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import connection, http
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import tflow

from mitmgate.exchange import Origin
from mitmgate.runtime import Shared, Snapshot, compile_rules
from mitmgate.telemetry.metrics import Metrics
from mitmgate.transport.passage import Tag, tag
from mitmgate.transport.scope import Scope
from mitmgate.transport.ways import Ways

PUBLIC, OTHER = "93.184.216.34", "1.1.1.1"
OWN = [("127.0.0.1", 8080), ("127.0.0.1", 8081)]


class Answers:
    """A resolver: by name, one answer after the other, the last of which repeats. Remembers what it was asked."""

    def __init__(self, answers: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._answers = {name: list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        left = self._answers.get(host)
        if not left:
            raise OSError("the name has no address")
        return left.pop(0) if len(left) > 1 else left[0]


class House:
    """`Ways` under rules, and one client."""

    def __init__(self, folder: Path, document: Mapping[str, Any], answers: Mapping[str, Sequence[Sequence[str]]]) -> None:
        (folder / "10.yaml").write_text(json.dumps({"version": 1, **document}))
        snapshot: Snapshot = compile_rules(folder, {}, Origin("http", "127.0.0.1", 1), Shared())
        self.resolve = Answers(answers)
        scope = Scope.of(snapshot.rules, snapshot.intercept, lambda: OWN)
        self.ways = Ways(snapshot, scope, Metrics("test"), self.resolve)  # type: ignore[arg-type]
        self.client = connection.Client(
            peername=("127.0.0.1", 50000), sockname=("127.0.0.1", 8080), proxy_mode=ProxyMode.parse("regular")
        )

    async def connect(self, host: str, port: int = 443) -> int:
        """What a CONNECT is answered with."""
        flow = tflow.tflow(req=http.Request.make("GET", f"https://{host}:{port}/"))
        flow.client_conn = self.client
        await self.ways.open_tunnel(flow)
        return flow.response.status_code if flow.response is not None else 200

    async def dialled(self, host: str, port: int = 443, owner: Tag | None = None) -> tuple[str, int] | str:
        """The address that a connection to `host` goes to, or why it goes nowhere."""
        server = connection.Server(address=(host, port))
        if owner is not None:
            tag(server, owner)
        await self.ways.aim(ServerConnectionHookData(server, self.client))
        assert server.address is not None
        return str(server.error) if server.error else (server.address[0], server.address[1])


PRIVATE = [
    "127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "100.64.0.1",
    "0.0.0.0", "fe80::1", "fd00:ec2::254", "192.168.1.1",
]  # fmt: skip


@pytest.mark.parametrize("private", PRIVATE)
async def test_a_tunnel_goes_to_the_address_that_was_checked(tmp_path: Path, private: str) -> None:
    house = House(tmp_path, {}, {"rebind.test": [[PUBLIC], [private]]})
    assert await house.connect("rebind.test") == 200
    assert await house.dialled("rebind.test") == (PUBLIC, 443)
    assert await house.dialled("rebind.test") == (PUBLIC, 443)
    assert house.resolve.asked == ["rebind.test"]


@pytest.mark.parametrize("private", PRIVATE)
async def test_a_request_in_clear_goes_to_the_address_that_was_checked(tmp_path: Path, private: str) -> None:
    """Each connection is looked up and checked by itself; what was looked up is what is dialled."""
    house = House(tmp_path, {}, {"rebind.test": [[PUBLIC], [private]]})
    owner = Tag(Origin("http", "rebind.test", 80), None)
    assert await house.dialled("rebind.test", 80, owner) == (PUBLIC, 80)
    assert "denied" in str(await house.dialled("rebind.test", 80, owner))
    assert house.resolve.asked == ["rebind.test"] * 2


@pytest.mark.parametrize("private", PRIVATE)
async def test_a_private_answer_is_denied_before_anything_is_dialled(tmp_path: Path, private: str) -> None:
    house = House(tmp_path, {}, {"rebind.test": [[private], [PUBLIC]]})
    assert await house.connect("rebind.test") == 403


async def test_of_several_answers_a_public_one_is_dialled(tmp_path: Path) -> None:
    house = House(tmp_path, {}, {"mixed.test": [["127.0.0.1", "::1", OTHER, PUBLIC]]})
    assert await house.connect("mixed.test") == 200
    assert await house.dialled("mixed.test") == (OTHER, 443)


async def test_another_destination_inside_the_tunnel_is_checked_anew(tmp_path: Path) -> None:
    """The tunnel's address is good for the tunnel's name alone."""
    house = House(tmp_path, {}, {"rebind.test": [[PUBLIC]], "inside.test": [["10.0.0.1"]]})
    assert await house.connect("rebind.test") == 200
    assert "denied" in str(await house.dialled("inside.test"))
    assert "denied" in str(await house.dialled("rebind.test", 8081))


async def test_an_intercepted_name_that_no_provider_has_is_checked_when_it_is_dialled(tmp_path: Path) -> None:
    """An unmatched request goes to its original destination: a vendor's name that DNS turns inwards is denied."""
    house = House(tmp_path, {"intercept": ["api.openai.com"]}, {"api.openai.com": [[PUBLIC], ["10.0.0.1"]]})
    assert await house.connect("api.openai.com") == 200
    assert house.resolve.asked == []
    owner = Tag(Origin("https", "api.openai.com", 443), "api.openai.com")
    assert await house.dialled("api.openai.com", 443, owner) == (PUBLIC, 443)
    assert "denied" in str(await house.dialled("api.openai.com", 443, owner))


async def test_a_provider_of_the_rules_may_be_private_by_its_own_address_alone(tmp_path: Path) -> None:
    """Exempt by name: the same address asked for by anybody else is denied."""
    document = {"providers": {"local": {"dialect": "openai", "base_url": "http://llm.corp:8000/v1"}}}
    house = House(tmp_path, document, {"llm.corp": [["10.0.0.7"]]})
    owner = Tag(Origin("http", "llm.corp", 8000), "local")
    assert await house.dialled("llm.corp", 8000, owner) == ("10.0.0.7", 8000)
    assert "denied" in str(await house.dialled("llm.corp", 8000))
    assert "denied" in str(await house.dialled("llm.corp", 8000, Tag(Origin("http", "llm.corp", 8000), None)))


async def test_a_provider_is_never_the_gateway_itself(tmp_path: Path) -> None:
    document = {"providers": {"loop": {"dialect": "openai", "base_url": "http://loop.corp:8081/v1"}}}
    house = House(tmp_path, document, {"loop.corp": [["127.0.0.1"]]})
    assert "denied" in str(await house.dialled("loop.corp", 8081, Tag(Origin("http", "loop.corp", 8081), "loop")))


async def test_governed_tunnels_do_not_lead_to_an_intercepted_names_address(tmp_path: Path) -> None:
    """Another name for the vendor's address, an own one perhaps, would be a way around the rules."""
    document = {"intercept": ["api.openai.com"], "tunnel": "governed"}
    answers = {"api.openai.com": [[OTHER, PUBLIC]], "alias.test": [[PUBLIC]], "free.test": [["9.9.9.9"]]}
    house = House(tmp_path, document, answers)
    assert await house.connect("alias.test") == 403
    assert await house.connect("free.test") == 200


async def test_a_name_without_an_address_is_unreachable(tmp_path: Path) -> None:
    house = House(tmp_path, {}, {})
    assert await house.connect("nowhere.test") == 502


async def test_a_network_that_is_allowed_is_asked_for_by_address(tmp_path: Path) -> None:
    house = House(tmp_path, {"tunnel": {"allow": ["10.0.0.0/8"]}}, {"in.test": [["10.1.2.3"]], "out.test": [["192.168.0.1"]]})
    assert await house.connect("in.test", 8443) == 200
    assert await house.dialled("in.test", 8443) == ("10.1.2.3", 8443)
    assert await house.connect("out.test", 8443) == 403
