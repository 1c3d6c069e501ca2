"""`mitmgate run` where a port cannot be had: one line that says which and what to write, and exit code 1."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import mitmgate


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of loopback on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def run(folder: Path, files: Mapping[str, Any], *modes: str) -> subprocess.CompletedProcess[str]:
    """The command with these rules files, to its end."""
    rules = folder / "rules"
    rules.mkdir()
    for name, document in files.items():
        (rules / name).write_text(document if isinstance(document, str) else json.dumps(document))
    command = [sys.executable, "-m", "mitmgate", "run", "--rules", str(rules), "--confdir", str(folder / "conf")]
    command += [part for mode in modes for part in ("--mode", mode)]
    package = str(Path(mitmgate.__file__).parent.parent)
    least = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "PYTHONPATH": package}
    return subprocess.run(command, env=least, capture_output=True, text=True, timeout=30, check=False, cwd=folder)


def another(port: int) -> int:
    return port + 10 if port + 10 <= 65_535 else port - 10


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What it said, which is one line; it ended with 1, and wrote nothing else."""
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("mitmgate run: ")
    return done.stderr.removeprefix("mitmgate run: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("name", "other", "modes"), [("proxy", "admin", ()), ("proxy", "admin", ("socks5",)), ("admin", "proxy", ())]
)
def test_a_port_of_the_rules(tmp_path: Path, taken: int, name: str, other: str, modes: tuple[str, ...]) -> None:
    listen = f"version: 1\nlisten:\n  {other}: 127.0.0.1:0\n  {name}: 127.0.0.1:{taken}\n"
    said = one_line(run(tmp_path, {"10-first.yaml": {"access": "open"}, "20-ports.yaml": listen}, *modes))
    place = tmp_path / "rules" / "20-ports.yaml:4"
    assert said == f"127.0.0.1:{taken} is taken: write `listen: {{{name}: 127.0.0.1:{another(taken)}}}` in {place}"


def test_what_it_says_to_write_is_accepted(tmp_path: Path, taken: int) -> None:
    """The text between the backticks is rules, and names the port that is asked for next."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    listen = {"proxy": f"127.0.0.1:{taken}", "admin": "127.0.0.1:0"}
    advice = one_line(run(first, {"rules.yaml": {"version": 1, "listen": listen}})).split("`")[1]
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", another(taken)))
        except OSError:
            pass                            # somebody else has it: taken all the same
        else:
            listener.listen()
        said = one_line(run(second, {"rules.yaml": {"version": 1, "listen": {"admin": "127.0.0.1:0"}}, "told.yaml": advice}))
    assert said.startswith(f"127.0.0.1:{another(taken)} is taken: ")
    assert said.endswith(f"{second / 'rules' / 'told.yaml:1'}")


def test_a_default_port_is_written_where_the_rules_begin(tmp_path: Path) -> None:
    """Nobody wrote `listen.proxy`: the file that the rules begin in is named."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", 8080))
        except OSError:
            pass                            # taken already, as on many a developer's machine
        else:
            listener.listen()
        said = one_line(run(tmp_path, {"rules.yaml": 'version: 1\naccess: open\nlisten: {admin: "127.0.0.1:0"}\n'}))
    assert said == f"127.0.0.1:8080 is taken: write `listen: {{proxy: 127.0.0.1:8090}}` in {tmp_path / 'rules' / 'rules.yaml'}"


LOOPBACK = {"rules.yaml": {"version": 1, "access": "open", "listen": {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}}}


@pytest.mark.parametrize(
    ("spec", "host"), [("regular", "127.0.0.1"), ("socks5", ""), ("reverse:http://127.0.0.1:9", "127.0.0.1")]
)
def test_a_port_of_a_mode(tmp_path: Path, taken: int, spec: str, host: str) -> None:
    at = f"{host}:" if host else ""
    said = one_line(run(tmp_path, LOOPBACK, f"{spec}@{at}{taken}"))
    wanted = f"{host}:{taken}" if host else f"port {taken}"
    assert said == f"{wanted} is taken: write `--mode {spec}@{at}{another(taken)}`"


def test_one_of_two_modes(tmp_path: Path, taken: int) -> None:
    """The other one has its port, and gives it back."""
    said = one_line(run(tmp_path, LOOPBACK, "regular", f"socks5@127.0.0.1:{taken}"))
    assert said == f"127.0.0.1:{taken} is taken: write `--mode socks5@127.0.0.1:{another(taken)}`"


@pytest.mark.parametrize("name", ["proxy", "admin"])
def test_an_address_that_is_not_ours(tmp_path: Path, name: str) -> None:
    """Another port would not help."""
    listen = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0", name: "192.0.2.1:8099"}
    said = one_line(run(tmp_path, {"rules.yaml": {"version": 1, "access": "open", "listen": listen}}))
    assert said.startswith("cannot listen on 192.0.2.1:8099, ")
    assert str(tmp_path / "rules" / "rules.yaml:1") in said
    assert "taken" not in said


def test_an_address_of_a_mode_that_is_not_ours(tmp_path: Path) -> None:
    said = one_line(run(tmp_path, LOOPBACK, "regular@192.0.2.1:8099"))
    assert said.startswith("cannot listen on 192.0.2.1:8099, `--mode regular@192.0.2.1:8099`: ")
