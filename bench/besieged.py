"""What the siege and the bombs share: one gateway with rules that attacks can aim at, and the helpers that watch it."""

import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import Order
from field import HOST, MITMGATE, Upstream, free_port, started
from probe import Lag
from side import Side

RULES = """\
version: 1
listen: {{proxy: 127.0.0.1:{proxy}, admin: 127.0.0.1:{admin}}}
intercept: [api.openai.com]
providers:
  bench: {{dialect: openai, base_url: "http://127.0.0.1:{upstream}/v1", credential: {{value: bench}}, zone: internal}}
  keyed: {{dialect: openai, base_url: "http://127.0.0.1:{upstream}/v1", credential: client, zone: internal}}
  broken: {{dialect: openai, base_url: "http://127.0.0.1:{nobody}/v1", credential: {{value: bench}}, zone: internal}}
models:
  flood: {{targets: [{{provider: bench}}], retry: {{max: 0}}}}
  large: {{targets: [{{provider: bench}}], retry: {{max: 0}}}}
  keyed: {{targets: [{{provider: keyed}}]}}
  broken: {{targets: [{{provider: broken}}], retry: {{max: 0}}}}
routes:
  - name: bench
    targets: [{{provider: bench}}]
    retry: {{max: 0}}
"""


@dataclass(frozen=True, slots=True)
class Besieged:
    """A running gateway, and the ways in."""

    pid: int
    port: int
    admin: int
    log: Path
    ca: Path

    def direct(self, **fields: Any) -> Order:
        """An order for clients that use it as their base_url."""
        return Order(port=self.port, host=f"127.0.0.1:{self.port}", **fields)

    def intercepted(self, **fields: Any) -> Order:
        """An order for clients that come through it as their proxy."""
        return Order(port=self.port, host=HOST, authority=f"{HOST}:443", server_name=HOST, ca=str(self.ca), **fields)

    def counted(self, name: str) -> float:
        """The sum of a metric's series."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[{{ ]", line))

    def forget_peak(self) -> None:
        """Let the peak of its resident size begin anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextmanager
def besieged(folder: Path, source: Upstream) -> Iterator[Besieged]:
    """Start the gateway in front of the upstream."""
    port, admin, confdir, log, rules = free_port(), free_port(), folder / "conf", folder / "log", folder / "rules"
    rules.mkdir()
    (rules / "bench.yaml").write_text(RULES.format(proxy=port, admin=admin, upstream=source.http, nobody=free_port()))
    with started([*MITMGATE, "run", "--rules", str(rules), "--confdir", str(confdir)], port, log) as pid:
        yield Besieged(pid, port, admin, log, confdir / "mitmproxy-ca-cert.pem")


@contextmanager
def probed(gateway: Besieged, interval_ms: float) -> Iterator[Lag]:
    """Probe the gateway's loop during the block; the figures are there after it."""
    side, lag = Side("probe.py", [str(gateway.admin), str(interval_ms)]), Lag()
    try:
        yield lag
        found = side.tell().answer()
    finally:
        side.stop()
    for name, value in found.items():
        setattr(lag, name, value)


def awaited(holds: Any, within: float) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + within
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.25)
    return True
