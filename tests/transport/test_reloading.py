"""Reloads from inside: what a look sees, what is retried, and that nothing of old rules stays behind."""

import asyncio
import contextlib
import gc
import json
import os
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mitmgate.exchange import Origin
from mitmgate.freeing import let_go, small_collections
from mitmgate.runtime import Shared, Snapshot, compile_rules
from mitmgate.telemetry.metrics import Metrics
from mitmgate.transport.folder import digest, look
from mitmgate.transport.reload import Reloading

SIMULATOR = Origin("http", "127.0.0.1", 1)


class Gateway:
    """Where rules hold, without a port: what `Reloading` asks of a house."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = Shared()
        self.write(0)
        self.reloading = Reloading(folder, look_every=0.05)
        self.snapshot = compile_rules(folder, {}, SIMULATOR, self.shared)
        self.meanwhile: Callable[[], object] = int
        self.compiled = 0

    def write(self, number: int, name: str = "rules.yaml", **more: object) -> None:
        routes = [{"name": f"r-{number}-{each}", "targets": [{"provider": "one"}]} for each in range(20)]
        document = {"version": 1, "providers": {"one": {"dialect": "simulator"}}, "routes": routes, **more}
        (self.folder / name).write_text(json.dumps(document))

    def compile(self, previous: Snapshot) -> Snapshot:
        self.compiled += 1
        made = compile_rules(self.folder, {}, SIMULATOR, self.shared, previous.generation + 1, previous=previous)
        self.meanwhile()
        return made

    def check(self, snapshot: Snapshot) -> None:
        if snapshot.rules.access == "keys":
            raise ValueError("not here")

    def take(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    @property
    def first(self) -> str:
        return self.snapshot.table.routes[0].chosen.route


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    gateway = Gateway(tmp_path)
    gateway.reloading.begin(gateway, Metrics("test"))
    yield gateway
    await gateway.reloading.end()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """References alone free things."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def eventually(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():                   # it happens in another thread
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("uncollected")
async def test_old_rules_are_freed_with_their_last_exchange(gateway: Gateway) -> None:
    held = [gateway.snapshot]               # as an exchange does
    old, its_rules = weakref.ref(gateway.snapshot), weakref.ref(gateway.snapshot.rules)
    gateway.write(1)
    assert (await gateway.reloading.reload()).word == "accepted"
    between = weakref.ref(gateway.snapshot)
    gateway.write(2)
    assert (await gateway.reloading.reload()).word == "accepted"
    assert between() is None, "nobody has used these"
    await asyncio.sleep(0.3)
    assert old() is held[0]
    assert held[0].table.routes[0].chosen.route == "r-0-0", "whole as long as it is held"
    held.clear()
    assert old() is None
    await eventually(lambda: its_rules() is None)


async def test_many_reloads_leave_nothing_behind(gateway: Gateway) -> None:
    sizes = []
    for number in range(1, 61):
        gateway.write(number)
        assert (await gateway.reloading.reload()).word == "accepted"
        if number % 20 == 0:
            await eventually(lambda: not [each for each in threading.enumerate() if isinstance(each, threading.Timer)])
            gc.collect()
            sizes.append(sys.getallocatedblocks())
    assert sizes[2] - sizes[1] < 2_000, f"objects: {sizes}"     # one generation is some 4,000
    assert gateway.snapshot.generation == 61


async def test_rules_that_are_written_while_they_are_read_are_read_again(gateway: Gateway) -> None:
    """A ConfigMap may turn between two files: what was read is then half of one state and half of another."""
    gateway.write(1)
    writes = iter([lambda: gateway.write(2)])
    gateway.meanwhile = lambda: next(writes, int)()
    outcome = await gateway.reloading.reload()
    assert (outcome.word, outcome.generation, gateway.first) == ("accepted", 2, "r-2-0")
    assert gateway.compiled == 2


async def test_a_folder_that_never_rests_is_given_up(gateway: Gateway) -> None:
    numbers = iter(range(1, 1000))
    gateway.write(next(numbers))
    gateway.meanwhile = lambda: gateway.write(next(numbers))
    outcome = await gateway.reloading.reload()
    assert (outcome.word, outcome.generation, gateway.first) == ("rejected", 1, "r-0-0")
    assert "change while they are read" in outcome.problems[0]


async def test_a_bug_of_ours_leaves_the_old_rules(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    gateway.write(1)
    gateway.meanwhile = lambda: 1 // 0
    outcome = await gateway.reloading.reload()
    assert (outcome.word, gateway.first) == ("rejected", "r-0-0")
    assert "ZeroDivisionError" in caplog.text
    assert gateway.reloading.warnings
    gateway.meanwhile = int
    assert (await gateway.reloading.reload()).word == "accepted"
    assert gateway.reloading.warnings == ()


async def test_rules_that_may_not_hold_here(gateway: Gateway) -> None:
    gateway.write(1, access="keys")
    outcome = await gateway.reloading.reload()
    assert (outcome.word, outcome.problems, gateway.first) == ("rejected", ("not here",), "r-0-0")
    gateway.write(1)
    assert (await gateway.reloading.reload()).word == "accepted"


async def test_several_at_once_are_one(gateway: Gateway) -> None:
    gateway.write(1)
    words = [each.word for each in await asyncio.gather(*(gateway.reloading.reload() for _ in range(5)))]
    assert sorted(words) == ["accepted", *["unchanged"] * 4]
    assert gateway.compiled == 1


async def test_the_watch_takes_teams_and_new_files(gateway: Gateway) -> None:
    (gateway.folder / "20-more.yaml").write_text(json.dumps({"projects": {"support": {}}}))
    await eventually(lambda: gateway.snapshot.generation == 2)
    (gateway.folder / "teams").mkdir()
    (gateway.folder / "teams" / "a.yaml").write_text(json.dumps({"scope": {"project": ["support"]}}))
    await eventually(lambda: gateway.snapshot.generation == 3)
    (gateway.folder / "teams" / "a.yaml").unlink()
    await eventually(lambda: gateway.snapshot.generation == 4)
    (gateway.folder / ".hidden.yaml").write_text("no: rules")
    (gateway.folder / "README").write_text("no rules")
    await asyncio.sleep(0.3)
    assert gateway.snapshot.generation == 4


async def test_many_problems_are_told_in_part(gateway: Gateway) -> None:
    (gateway.folder / "20-more.yaml").write_text("\n".join(f"wrong-{number}: 1" for number in range(50)))
    outcome = await gateway.reloading.reload()
    assert len(outcome.problems) == 50
    assert len(gateway.reloading.warnings) == 21
    assert gateway.reloading.warnings[-1].endswith("and 30 problems more, see the log")


# A look


def test_a_look_sees_what_a_time_does_not_tell(tmp_path: Path) -> None:
    """The same size and the same times, as two writes within one tick of the clock leave them."""
    path = tmp_path / "rules.yaml"
    path.write_text("a: 1")
    before = look(tmp_path)
    assert before.agrees(look(tmp_path))
    changed = dict(before.fresh)
    path.write_text("a: 2")
    after = look(tmp_path)
    within_a_tick = type(after)(before.stamps, after.fresh)
    assert changed
    assert not before.agrees(within_a_tick)


def test_a_look_that_is_no_longer_fresh_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules.yaml").write_text("a: 1")
    before = look(tmp_path)
    monkeypatch.setattr("mitmgate.transport.folder.time.time", lambda: os.stat(tmp_path / "rules.yaml").st_mtime + 60)
    later = look(tmp_path)
    assert before.fresh
    assert not later.fresh
    assert before.agrees(later)
    assert later.agrees(before)


def test_a_change_that_keeps_size_and_time(tmp_path: Path) -> None:
    """`cp -p`, `git checkout` with its times set back."""
    path = tmp_path / "rules.yaml"
    path.write_text("a: 1")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    before, content = look(tmp_path), digest(tmp_path)
    path.write_text("a: 2")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert not before.agrees(look(tmp_path))
    assert digest(tmp_path) != content


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_holds_nothing_up(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "rules.yaml")
    assert look(tmp_path).agrees(look(tmp_path))
    assert digest(tmp_path) == digest(tmp_path)


def test_a_named_file_counts(tmp_path: Path) -> None:
    named = tmp_path / "answer.json"
    before, content = look(tmp_path, [named]), digest(tmp_path, [named])
    named.write_text("{}")
    assert not before.agrees(look(tmp_path, [named]))
    assert digest(tmp_path, [named]) != content


# Freeing


class Leaf:
    """Something whose end can be seen."""


@pytest.mark.usefixtures("uncollected")
def test_waste_is_freed_and_what_others_hold_is_not() -> None:
    theirs = {"kept": [Leaf()]}
    tree = {"one": [Leaf(), (Leaf(),)], "theirs": theirs, "deep": {"er": [{"est": Leaf()}]}}
    leaves = [weakref.ref(each) for each in (tree["one"][0], tree["one"][1][0], tree["deep"]["er"][0]["est"])]
    waste: list[object] = [tree]
    del tree
    let_go(waste)
    assert [each() for each in leaves] == [None] * 3
    assert isinstance(theirs["kept"][0], Leaf)
    assert waste == []


def test_collections_are_small_for_a_while_only() -> None:
    usual = gc.get_threshold()
    with contextlib.suppress(ZeroDivisionError), small_collections():
        assert gc.get_threshold() != usual
        raise ZeroDivisionError
    assert gc.get_threshold() == usual
