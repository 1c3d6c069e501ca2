"""The rules change under load: nothing is lost, nothing is served by a mixture, and what is wrong is refused."""

import asyncio
import http.client
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rig import behaviours as does
from rig.gateway import Gateway
from rig.starts import StartGateway, StartUpstream
from rig.wire import Http1, Wires

CHAT = {"model": "any", "messages": [{"role": "user", "content": "hello"}]}
ASKED = (("host", "127.0.0.1"), ("content-type", "application/json"))
REQUESTS, RELOADS, CLIENTS = 10_000, 100, 8


def rules(port: int, number: int, **more: Any) -> dict[str, Any]:
    """Everything that a request meets bears the number: route, model, parameter, header."""
    provider = {"dialect": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "headers": {"x-number": str(number)}}
    route = {
        "name": f"r-{number}",
        "targets": [{"provider": "up", "model": f"m-{number}"}],
        "set": {"user": f"u-{number}"},
        "retry": {"max": 0},
    }
    return {"providers": {"up": provider}, "routes": [route], "answer_model": "served", **more}


def folder_of(gate: Gateway) -> Path:
    return gate.folder / "rules"


def write(path: Path, document: object) -> None:
    """As editors do: a new file takes the old one's place."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(document if isinstance(document, str) else json.dumps(document))
    new.replace(path)


def post(gate: Gateway, path: str = "/reload", **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", gate.admin_port, timeout=30)
    try:
        connection.request("POST", path, headers=headers or {"x-mitmgate": "reload"})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def ready(gate: Gateway) -> dict[str, Any]:
    status, text = gate.admin("/readyz")
    assert status == 200, text
    found: dict[str, Any] = json.loads(text)
    return found


def until(gate: Gateway, wanted: Callable[[dict[str, Any]], bool], within: float = 10.0) -> dict[str, Any]:
    """What /readyz says once it says what is wanted."""
    end = time.monotonic() + within
    while not wanted(found := ready(gate)):
        assert time.monotonic() < end, f"{found}\n{gate.errors()[-3000:]}"
        time.sleep(0.05)
    return found


def count(gate: Gateway, outcome: str) -> int:
    name = f'mitmgate_rules_reloads_total{{outcome="{outcome}"}} '
    (line,) = [each for each in gate.admin("/metrics")[1].splitlines() if each.startswith(name)]
    return int(float(line.removeprefix(name)))


async def asked(client: Http1, **more: Any) -> tuple[str, dict[str, Any]]:
    """The route that served, and what the provider got."""
    client.send("POST", "/v1/chat/completions", ASKED, json.dumps({**CHAT, **more}).encode())
    answer = await client.reply(within=30)
    assert (answer.status, answer.whole) == (200, True), answer
    return answer.header("x-gateway-route") or "", json.loads(answer.body)


def numbers(route: str, got: dict[str, Any]) -> set[str]:
    """One number, or the reply is a mixture."""
    return {route.removeprefix("r-"), got["model"].removeprefix("m-"), got["user"].removeprefix("u-"), got["number"]}


class Mirror(asyncio.Protocol):
    """An upstream that answers with what it was asked; small, for it is asked 10,000 times."""

    def __init__(self, opened: list[asyncio.Transport]) -> None:
        self.opened = opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.got = transport, b""
        self.opened.append(transport)

    def data_received(self, data: bytes) -> None:
        self.got += data
        while b"\r\n\r\n" in self.got:
            head, _, rest = self.got.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
            length = int(fields["content-length"])
            if len(rest) < length:
                return
            body, self.got = json.loads(rest[:length]), rest[length:]
            text = json.dumps({"model": body["model"], "user": body["user"], "number": fields["x-number"], "choices": []})
            self.transport.write(
                f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()
            )


@pytest.fixture
async def mirror() -> AsyncIterator[int]:
    """Its port."""
    opened: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_server(lambda: Mirror(opened), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for transport in opened:
        transport.abort()
    await asyncio.sleep(0.01)


async def under_load(gate: Gateway, wires: Wires, change: Callable[[int], Awaitable[None]]) -> list[set[str]]:
    """`REQUESTS` requests, with `change` called `RELOADS` times meanwhile; the numbers that each reply bears."""
    found: list[set[str]] = []
    begun = 0
    moved = asyncio.Condition()

    async def client() -> None:
        nonlocal begun
        wire = await wires.direct(gate)
        while begun < REQUESTS:
            begun += 1
            found.append(numbers(*await asked(wire)))
            async with moved:
                moved.notify_all()

    async def operator() -> None:
        for number in range(1, RELOADS + 1):
            async with moved:
                await moved.wait_for(lambda due=number * REQUESTS // (RELOADS + 1): len(found) >= due)
            await change(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
        group.create_task(operator())
    return found


async def test_ten_thousand_requests_during_a_hundred_reloads(gateway: StartGateway, wires: Wires, mirror: int) -> None:
    gate = gateway(rules(mirror, 0))
    path = folder_of(gate) / "10-rules.yaml"

    async def change(number: int) -> None:
        write(path, rules(mirror, number))
        assert await asyncio.to_thread(post, gate) == (200, {"rules": number + 1, "changed": True})

    found = await under_load(gate, wires, change)
    assert len(found) == REQUESTS
    assert [each for each in found if len(each) != 1] == []
    assert set().union(*found) == {str(number) for number in range(RELOADS + 1)}, "every generation has served"
    records = gate.records(REQUESTS)
    assert {(each["route"], each["rules"]) for each in records} == {(f"r-{n}", n + 1) for n in range(RELOADS + 1)}
    assert (count(gate, "accepted"), count(gate, "rejected")) == (RELOADS, 0)
    assert f"mitmgate_rules_generation {RELOADS + 1}.0" in gate.admin("/metrics")[1]


async def test_a_stream_ends_under_the_rules_that_it_began_with(
    gateway: StartGateway, upstream: StartUpstream, wires: Wires
) -> None:
    old, new = upstream(does.ok_stream(events=15, gap=0.1)), upstream(does.ok())
    gate = gateway(rules(old.port, 1))
    wire = await wires.direct(gate)
    wire.send("POST", "/v1/chat/completions", ASKED, json.dumps({**CHAT, "stream": True}).encode())
    head = await wire.head()
    assert head.header("x-gateway-route") == "r-1"
    write(folder_of(gate) / "10-rules.yaml", rules(new.port, 2))
    assert (await asyncio.to_thread(post, gate))[1]["changed"]
    second = await wires.direct(gate)
    second.send("POST", "/v1/chat/completions", ASKED, json.dumps(CHAT).encode())
    assert (await second.reply()).header("x-gateway-route") == "r-2"
    assert not old.count("done"), "the stream still runs"
    assert b"data: [DONE]" in await wire.until(rb"0\r\n\r\n$")
    records = gate.records(2)
    assert [(each["route"], each["rules"], each["code"]) for each in records] == [("r-2", 2, None), ("r-1", 1, None)]


async def test_a_retry_stays_with_its_rules(gateway: StartGateway, upstream: StartUpstream, wires: Wires) -> None:
    """The first attempt hangs while providers, routes and the address change; the second still goes where it was to go."""
    old, new = upstream(does.after(1.0, does.status(503)), does.ok("from the old")), upstream(does.ok("from the new"))
    first = rules(old.port, 1)
    first["routes"][0]["retry"] = {"max": 1, "backoff": {"base": "1ms", "max": "1ms"}}
    gate = gateway(first)
    wire = await wires.direct(gate)
    wire.send("POST", "/v1/chat/completions", ASKED, json.dumps(CHAT).encode())
    await asyncio.to_thread(old.wait, "request")
    second = rules(new.port, 2)
    second["providers"] = {"other": second["providers"]["up"]}
    second["routes"][0]["targets"][0]["provider"] = "other"
    write(folder_of(gate) / "10-rules.yaml", second)
    assert (await asyncio.to_thread(post, gate))[1]["changed"]
    answer = await wire.reply()
    assert answer.status == 200
    assert answer.header("x-gateway-route") == "r-1"
    assert b"from the old" in answer.body
    assert [each.json()["model"] for each in old.requests] == ["m-1", "m-1"]
    wire.send("POST", "/v1/chat/completions", ASKED, json.dumps(CHAT).encode())
    assert b"from the new" in (await wire.reply()).body


def test_what_is_wrong_is_refused_told_and_mended(gateway: StartGateway, upstream: StartUpstream) -> None:
    gate = gateway(rules(upstream(does.ok()).port, 1))
    path = folder_of(gate) / "10-rules.yaml"
    good = path.read_text()
    wrong = json.loads(good)
    wrong["routes"][0]["targets"][0]["provider"] = "upp"
    wrong["providers"]["up"]["credential"] = {"value": "sk-very-secret", "fil": "x"}
    write(path, wrong)
    status, said = post(gate)
    assert (status, said["rules"], said["changed"]) == (422, 1, False)
    assert len(said["problems"]) == 2
    assert all(each.startswith("10-rules.yaml:1:") for each in said["problems"])
    for problem in said["problems"]:
        assert gate.errors().count(f"generation 1 stays: {problem}") == 1
    told = ready(gate)
    assert told["rules"] == 1
    assert [each for each in told["warnings"] if "generation 1 stays" in each and said["problems"][0] in each]
    assert "sk-very-secret" not in gate.log() + json.dumps(told) + json.dumps(said)
    assert count(gate, "rejected") == 1
    write(path, good)
    assert post(gate) == (200, {"rules": 1, "changed": False})
    assert ready(gate)["warnings"] == []
    assert (count(gate, "rejected"), count(gate, "unchanged"), count(gate, "accepted")) == (1, 1, 0)


def test_sighup(gateway: StartGateway) -> None:
    gate = gateway(rules(1, 1))
    write(folder_of(gate) / "10-rules.yaml", rules(1, 2))
    began = time.monotonic()
    gate.child.send_signal(signal.SIGHUP)
    until(gate, lambda state: state["rules"] == 2)
    assert time.monotonic() - began < 5
    assert gate.child.poll() is None


def test_a_write_and_rename_is_one_change(gateway: StartGateway) -> None:
    gate = gateway(rules(1, 1))
    write(folder_of(gate) / "10-rules.yaml", rules(1, 2))
    until(gate, lambda state: state["rules"] == 2)
    settled(gate, 2)


def settled(gate: Gateway, generation: int) -> None:
    """No second reload follows, of any outcome."""
    looks = count(gate, "unchanged")
    time.sleep(2.5)
    assert ready(gate)["rules"] == generation
    assert (count(gate, "accepted"), count(gate, "rejected")) == (generation - 1, 0)
    assert count(gate, "unchanged") == looks


def test_a_file_that_is_still_being_written_is_not_taken(gateway: StartGateway) -> None:
    """Each half is valid YAML, so that only waiting can tell."""
    gate = gateway(rules(1, 1))
    whole = "providers: {up: {dialect: openai, base_url: 'http://127.0.0.1:1/v1'}}\nroutes:\n"
    whole += "".join(f"  - {{name: r-{number}, targets: [{{provider: up}}]}}\n" for number in range(40))
    with (folder_of(gate) / "10-rules.yaml").open("w") as file:
        for line in whole.splitlines(keepends=True):
            file.write(line)
            file.flush()
            time.sleep(0.1)
            assert ready(gate)["rules"] == 1
    until(gate, lambda state: state["rules"] == 2)
    settled(gate, 2)


def test_a_config_maps_swap_is_one_change(gateway: StartGateway) -> None:
    """As the kubelet does it: a new folder of files, and one rename that turns `..data` to it."""
    gate = gateway(rules(1, 1))
    folder = folder_of(gate)

    def turn(number: int) -> None:
        version = folder / f"..2026_11_{number:02}"
        version.mkdir()
        (version / "10-rules.yaml").write_text(json.dumps({"providers": rules(1, number)["providers"]}))
        (version / "20-routes.yaml").write_text(json.dumps({"routes": rules(1, number)["routes"]}))
        (folder / "..data_tmp").symlink_to(version.name)
        (folder / "..data_tmp").rename(folder / "..data")
        for old in folder.glob("..2026_*"):
            if old != version:
                shutil.rmtree(old)

    turn(2)
    for name in ("10-rules.yaml", "20-routes.yaml"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(f"..data/{name}")
    until(gate, lambda state: state["rules"] == 2)
    turn(3)
    until(gate, lambda state: state["rules"] == 3)
    settled(gate, 3)


def test_a_touch_changes_nothing(gateway: StartGateway) -> None:
    gate = gateway(rules(1, 1))
    path = folder_of(gate) / "10-rules.yaml"
    os.utime(path, (1_700_000_000, 1_700_000_000))
    end = time.monotonic() + 10
    while not count(gate, "unchanged"):
        assert time.monotonic() < end
        time.sleep(0.05)
    settled(gate, 1)


async def test_a_folder_that_is_gone(gateway: StartGateway, upstream: StartUpstream, wires: Wires) -> None:
    """The old rules serve on, and the folder's return is a change like any other."""
    gate = gateway(rules(upstream(does.ok()).port, 1))
    away = gate.folder / "away"
    folder_of(gate).rename(away)
    told = await asyncio.to_thread(until, gate, lambda state: bool(state["warnings"]))
    assert told["status"] == "ok"
    assert "cannot be read" in told["warnings"][0]
    wire = await wires.direct(gate)
    wire.send("POST", "/v1/chat/completions", ASKED, json.dumps(CHAT).encode())
    assert (await wire.reply()).header("x-gateway-route") == "r-1"
    away.rename(folder_of(gate))
    assert (await asyncio.to_thread(until, gate, lambda state: not state["warnings"]))["rules"] == 1


def test_what_takes_a_restart_is_said_and_the_rest_is_taken(gateway: StartGateway) -> None:
    gate = gateway(rules(1, 1))
    main = folder_of(gate) / "00-listen.yaml"
    before = json.loads(main.read_text())
    write(main, {**before, "listen": {**before["listen"], "proxy": "127.0.0.1:1", "hosts": ["gateway.corp"]}})
    write(folder_of(gate) / "10-rules.yaml", rules(1, 2, workers=2))
    assert post(gate) == (200, {"rules": 2, "changed": True})
    told = ready(gate)["warnings"]
    for key in ("listen.proxy", "workers"):
        assert f"{key}: the change takes effect at the next start" in told
    assert post(gate, host="gateway.corp", **{"x-mitmgate": "reload"})[0] == 200, "`listen.hosts` holds at once"
    write(main, before)
    write(folder_of(gate) / "10-rules.yaml", rules(1, 3))
    assert post(gate)[1]["changed"]
    assert not [each for each in ready(gate)["warnings"] if "next start" in each]


def test_rules_that_would_open_a_port_to_everybody_are_refused(gateway: StartGateway) -> None:
    """Where the command line says where to listen, the rules alone cannot tell."""
    gate = gateway(rules(1, 1, access="open"), modes=["regular@0.0.0.0:0"])
    write(folder_of(gate) / "10-rules.yaml", rules(1, 2))
    status, said = post(gate)
    assert (status, said["rules"]) == (422, 1)
    assert "would let anybody call" in said["problems"][0]


async def test_who_may_ask_changes_with_the_rules(gateway: StartGateway, wires: Wires, mirror: int) -> None:
    """An open client connection is kept, and its next request meets the new rules."""
    gate = gateway(rules(mirror, 1, access="open"))
    wire = await wires.direct(gate)
    for access, status in (("open", 200), ("keys", 401), ("open", 200)):
        write(folder_of(gate) / "10-rules.yaml", rules(mirror, 1, access=access))
        await asyncio.to_thread(post, gate)
        wire.send("POST", "/v1/chat/completions", ASKED, json.dumps(CHAT).encode())
        assert (await wire.reply()).status == status
        if status == 401:                   # which ends a connection
            wire = await wires.direct(gate)


async def test_the_list_of_models_is_that_of_now(gateway: StartGateway, wires: Wires) -> None:
    target = {"targets": [{"provider": "up"}]}
    gate = gateway(rules(1, 1, models={"before": target}))
    wire = await wires.direct(gate)
    for name in ("before", "after"):
        write(folder_of(gate) / "10-rules.yaml", rules(1, 1, models={name: target}))
        await asyncio.to_thread(post, gate)
        wire.send("GET", "/v1/models", ASKED)
        assert [each["id"] for each in json.loads((await wire.reply()).body)["data"] if each["id"] in ("before", "after")] == [
            name
        ]
