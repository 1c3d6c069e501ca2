"""Everything of a gateway but its master: what is left when it cannot be made."""

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from mitmgate.rules.positions import RulesError
from mitmgate.transport.house import House


async def test_what_cannot_be_built_leaves_nothing_listening(tmp_path: Path) -> None:
    """A master that goes on without us (mitmdump with other addons) would keep the simulator's port otherwise."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "a.yaml").write_text("version: 1\nroutes: 1\n")
    before = listening()
    with pytest.raises(RulesError):
        await House(rules, tmp_path / "ca", {}).build()
    assert listening() == before
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (rules / "a.yaml").write_text(f"version: 1\nlisten: {{admin: 127.0.0.1:{taken.getsockname()[1]}}}\n")
        with pytest.raises(OSError, match="is taken"):
            await House(rules, tmp_path / "ca", {}).build()
    await asyncio.sleep(0)
    assert listening() == before


def listening() -> set[str]:
    """The sockets of this process that listen, by inode."""
    own = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):   # what this loop itself reads
            own.add(str(link.readlink()))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {fields[9] for fields in lines if fields[3] == "0A" and f"socket:[{fields[9]}]" in own}
