"""The besiegers, a process of their own: `python bench/attackers.py ORDER`, ORDER being the JSON of an `Order`.

The attacks are those of the suite (tests/rig/attacks.py), so `tests` must be on PYTHONPATH. It prints `ready`, waits for
a line on standard input, attacks for its time, and prints the JSON of a `Tally`.

Everybody shares one machine, and what an attacker takes from the good client by using the processor himself is not the
gateway's fault. So this process is nice, and it has an appetite: it starts no attack while it has used more than that
share of one processor since it began.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass, field

import uvloop

from rig.attacks import ATTACKS, Attack, Door

NICE = 10


@dataclass(frozen=True, slots=True)
class Order:
    """Whom to attack, and how: every kind `each` times at once, `pause` seconds between one attack and the next."""

    port: int
    host: str
    seconds: float
    each: int = 2
    pause: float = 0.25
    appetite: float = 0.25      # of one processor
    idle: int = 200             # connections that are opened at the start and say nothing to the end
    only: tuple[str, ...] = ()  # kinds; none: all


@dataclass(slots=True)
class Tally:
    """Attacks made, by kind; `ended` are those that the gateway cut short."""

    made: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    cpu: float = 0.0


class Siege:
    """All attackers of one order."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.door = Door(order.port, order.host)
        self.tally = Tally()
        self.began = time.monotonic()
        self.spent = time.process_time()

    async def run(self) -> Tally:
        """Attack for the order's time; what is under way then may come to its end."""
        idle = [await asyncio.open_connection("127.0.0.1", self.order.port) for _ in range(self.order.idle)]
        kinds = [attack for attack in ATTACKS if not self.order.only or attack.__name__ in self.order.only]
        self.tally.made = {"idle": len(idle), **{attack.__name__: 0 for attack in kinds}}
        self.tally.ended = dict.fromkeys(self.tally.made, 0)
        await asyncio.gather(*(self._again(attack, random.Random(number))
                               for number, attack in enumerate(kinds * self.order.each)))
        for _, writer in idle:
            writer.transport.abort()
        self.tally.cpu = time.process_time() - self.spent
        return self.tally

    async def _again(self, attack: Attack, dice: random.Random) -> None:
        end = self.began + self.order.seconds
        await asyncio.sleep(dice.uniform(0, self.order.pause))
        while time.monotonic() < end:
            if self._is_hungry():
                try:
                    async with asyncio.timeout(15):
                        await attack(self.door, dice)
                except (OSError, TimeoutError, EOFError, ValueError, RuntimeError):
                    self.tally.ended[attack.__name__] += 1
                self.tally.made[attack.__name__] += 1
            await asyncio.sleep(self.order.pause * dice.uniform(0.5, 1.5))

    def _is_hungry(self) -> bool:
        passed = time.monotonic() - self.began
        return time.process_time() - self.spent <= self.order.appetite * (passed + 1)


async def serve(order: Order) -> None:
    """Carry one order out; see the first lines of this file."""
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print(json.dumps(asdict(await Siege(order).run())), flush=True)
    with contextlib.suppress(ValueError):
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    os.nice(NICE)
    uvloop.run(serve(Order(**json.loads(sys.argv[1]))))
