"""Reload: the rules change while the gateway runs, and no request is lost or served by a mixture of old and new.

Theory of operation. A thread compiles the new rules beside the old ones; the loop then swaps one reference. Each exchange
keeps the snapshot that it began with (`Passage.snapshot`), so the old one lives until the last of its exchanges has ended.
Three things ask for a reload: a change that the watch saw in the folder, SIGHUP, and `POST /reload`. Rules that cannot be
used are refused and told, and the old ones stay.

The thread shares Python's lock with the loop, and what holds that lock long is memory: a collection of cycles that walks
over all rules, the old ones being freed in one go. `freeing` does both in small steps.
"""

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from mitmgate.freeing import let_go, small_collections
from mitmgate.rules.positions import RulesError
from mitmgate.runtime import Snapshot
from mitmgate.telemetry.metrics import Metrics
from mitmgate.transport.folder import Look, digest, look

logger = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0                     # seconds; a change is taken when two looks agree
_TRIES: Final = 5                           # to read the folder while nobody writes in it
_MOST_LOGGED: Final = 100                   # problems of one attempt
_MOST_SHOWN: Final = 20                     # of them in /readyz
_GONE: Final = 0.1                          # seconds until a snapshot that is being freed holds nothing any more


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a reload. `generation`: of the rules that hold now; `problems`: one line each, without secrets."""

    word: Literal["accepted", "rejected", "unchanged"]
    generation: int
    problems: tuple[str, ...] = ()


class Standing(Protocol):
    """Where the rules hold (`House`)."""

    snapshot: Snapshot

    def compile(self, previous: Snapshot) -> Snapshot:
        """The folder's rules as the generation after `previous`; for a thread. Raises RulesError or ValueError."""
        ...

    def check(self, snapshot: Snapshot) -> None:
        """Raises ValueError where these may not hold while the gateway listens as it does."""
        ...

    def take(self, snapshot: Snapshot) -> None:
        """These hold from now on."""
        ...


@dataclass(frozen=True, slots=True)
class _Read:
    """What a thread made of the folder."""

    seen: Look
    content: bytes
    snapshot: Snapshot | None = None
    problems: tuple[str, ...] = ()


class Reloading:
    """Reloads, one at a time. Make it before the first rules are read, so that no change after that is missed."""

    def __init__(self, folder: Path, look_every: float = LOOK_EVERY) -> None:
        self._folder = folder
        self._look_every = look_every
        self._seen, self._content = look(folder), digest(folder)
        self._turn = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._asked: set[asyncio.Task[Outcome]] = set()
        self._retired: set[weakref.ref[Snapshot]] = set()
        self._problems: tuple[str, ...] = ()
        self._standing: Standing | None = None
        self._metrics: Metrics | None = None

    def begin(self, standing: Standing, metrics: Metrics) -> None:
        """Watch the folder from now on."""
        self._standing, self._metrics = standing, metrics
        metrics.rules_taken(standing.snapshot.generation)
        self._watch = asyncio.create_task(self._look_again_and_again())

    async def end(self) -> None:
        """No more reloads."""
        tasks = [task for task in (self._watch, *self._asked) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the folder's present rules are not those that hold; empty: they are."""
        if not self._problems or self._standing is None:
            return ()
        stays = f"the rules in the folder are not taken, generation {self._standing.snapshot.generation} stays"
        more = len(self._problems) - _MOST_SHOWN
        told = [f"{stays}: {problem}" for problem in self._problems[:_MOST_SHOWN]]
        return (*told, f"{stays}: and {more} problems more, see the log") if more > 0 else tuple(told)

    def ask(self) -> None:
        """Reload soon; for a signal."""
        task = asyncio.ensure_future(self.reload())
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def reload(self) -> Outcome:
        """Take the folder's rules, if they can be used and differ from those that hold."""
        standing, metrics = self._standing, self._metrics
        assert standing is not None
        assert metrics is not None
        async with self._turn:
            outcome = await self._settle(standing)
            self._problems = outcome.problems
            metrics.reloaded(outcome.word)
            if outcome.word == "accepted":
                metrics.rules_taken(outcome.generation)
        for problem in outcome.problems[:_MOST_LOGGED]:
            logger.error("rules not taken, generation %d stays: %s", outcome.generation, problem)
        if outcome.word == "accepted":
            logger.info("rules taken: generation %d holds", outcome.generation)
        return outcome

    async def _settle(self, standing: Standing) -> Outcome:
        for _ in range(_TRIES):
            read = await asyncio.to_thread(self._read, standing)
            if read is not None:
                return self._conclude(read, standing)
            await asyncio.sleep(self._look_every)
        return Outcome("rejected", standing.snapshot.generation, ("its files change while they are read; try again",))

    def _conclude(self, read: _Read, standing: Standing) -> Outcome:
        """On the loop: nothing here waits, so no exchange sees half of it."""
        self._seen = read.seen
        if read.snapshot is None:
            return Outcome("rejected" if read.problems else "unchanged", standing.snapshot.generation, read.problems)
        try:
            standing.check(read.snapshot)
        except ValueError as error:
            return Outcome("rejected", standing.snapshot.generation, (str(error),))
        self._content = read.content
        self._retire(standing.snapshot)
        standing.take(read.snapshot)
        return Outcome("accepted", read.snapshot.generation)

    def _retire(self, snapshot: Snapshot) -> None:
        """When the last exchange has let go of it, what it holds is freed, object by object."""
        parts: list[object] = [snapshot.rules, snapshot.table, snapshot.callers, snapshot.providers]

        def gone(reference: weakref.ref[Snapshot]) -> None:
            self._retired.discard(reference)
            freeing = threading.Timer(_GONE, let_go, (parts,))
            freeing.daemon = True
            freeing.start()

        self._retired.add(weakref.ref(snapshot, gone))

    def _read(self, standing: Standing) -> _Read | None:
        """In a thread. None: somebody wrote meanwhile, and what was read may be half of one state and half of another."""
        old = standing.snapshot
        seen, content = look(self._folder, old.named), digest(self._folder, old.named)
        if content == self._content:
            return _Read(seen, content)
        with small_collections():
            problems, snapshot = _compiled(standing.compile, old)
        if not seen.agrees(look(self._folder, old.named)):
            return None
        return _Read(seen, content, snapshot, problems)

    async def _look_again_and_again(self) -> None:
        standing = self._standing
        assert standing is not None
        before: Look | None = None
        while True:
            await asyncio.sleep(self._look_every)
            now = await asyncio.to_thread(look, self._folder, standing.snapshot.named)
            if now.agrees(self._seen):
                before = None
            elif before is None or not now.agrees(before):
                before = now                # somebody may still be writing
            else:
                before = None
                try:
                    await self.reload()
                except Exception:  # a bug of ours must not end the watch
                    logger.exception("gateway_error in a reload")
                    self._seen = now


def _compiled(compile_: Callable[[Snapshot], Snapshot], old: Snapshot) -> tuple[tuple[str, ...], Snapshot | None]:
    """Problems, or a snapshot."""
    try:
        return (), compile_(old)
    except RulesError as error:
        return tuple(map(str, error.problems)), None
    except ValueError as error:
        return tuple(str(error).splitlines()), None
    except Exception:  # a bug of ours: the old rules stay
        logger.exception("gateway_error in a reload")
        return ("the gateway failed to compile them; its log has the cause",), None
