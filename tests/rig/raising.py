"""The gateway with a bug put into one place: `python raising.py run --rules … --confdir …`, the place in RAISE_IN.

    stage:NAME          a stage of the pipeline raises
    stage:NAME:2        … the second time it is called
    name:PACKAGE.NAME   a function that hooks or the layer call raises
"""

import argparse
import asyncio
import importlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

from mitmgate.cli.run import _welcome
from mitmgate.exchange import Exchange
from mitmgate.pipeline import Pipeline, Stage
from mitmgate.stages.services import Services
from mitmgate.transport.house import House
from mitmgate.transport.serving import SIGNALS, Serving


def raising(stage: Stage, turn: int) -> Stage:
    """`stage`, but at its `turn`-th call."""
    calls = 0

    async def bug(exchange: Exchange, services: Services) -> None:
        nonlocal calls
        calls += 1
        if calls == turn:
            raise RuntimeError("a bug of ours")
        await stage(exchange, services)

    return bug


def with_bug(place: str) -> Pipeline:
    """The pipeline with a bug in it, or the usual one where the bug is elsewhere."""
    kind, _, where = place.partition(":")
    if kind == "name":
        module, _, name = where.rpartition(".")
        owner: Any
        try:
            owner = importlib.import_module(module)
        except ModuleNotFoundError:
            package, _, cls = module.rpartition(".")
            owner = getattr(importlib.import_module(package), cls)

        def bug(*_: Any, **__: Any) -> Any:
            raise RuntimeError("a bug of ours")

        assert hasattr(owner, name)
        setattr(owner, name, bug)
        return Pipeline()
    name, _, turn = where.partition(":")
    usual = Pipeline()

    def phase(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        return tuple(raising(s, int(turn or 1)) if getattr(s, "__name__", "") == name else s for s in stages)

    changed = Pipeline(phase(usual.arrival), phase(usual.inbound), phase(usual.attempt))
    assert changed != usual, f"no stage is called {name}"
    return changed


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--rules", type=Path)
    parser.add_argument("--confdir", type=Path)
    args = parser.parse_args()
    house = House(args.rules, args.confdir, dict(os.environ), with_bug(os.environ["RAISE_IN"]))
    await house.build()
    serving = Serving(house, args.confdir, ())
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, serving.stop)
    await serving.run(lambda: print(_welcome(house), file=sys.stderr, flush=True))
    await house.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main())
