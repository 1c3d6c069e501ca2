"""The command line used wrongly: exit code 2, and words that say what to write instead."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mitmgate
from mitmgate.cli.main import COMMANDS, main

RULES = "version: 1\nproviders: {openai: {}, groq: {}}\nroutes:\n- {name: a, targets: [{provider: openai}, {provider: groq}]}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run; `rules/` is not in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rules.yaml").write_text(RULES)
    return tmp_path


def wrong(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What it says on stderr; on stdout nothing."""
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    return said.err


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    said = wrong(capsys)
    assert all(re.search(rf"^ +{name} +{command.about}$", said, re.MULTILINE) for name, command in COMMANDS.items())


def test_an_unknown_command_shows_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    said = wrong(capsys, "start")
    assert all(name in said for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        (("run", "my-rules"), "my-rules"),
        (("check", "--rules", "mine"), "--rules"),
        (("check", "mine", "--stricter", "x"), "--stricter x"),
    ],
)
def test_an_unknown_argument_shows_the_usage_of_its_command(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], unknown: str
) -> None:
    said = wrong(capsys, *arguments)
    assert said.startswith(f"usage: mitmgate {arguments[0]} [-h] ")
    assert said.endswith(f"mitmgate {arguments[0]}: error: unknown arguments: {unknown}\n")


@pytest.mark.parametrize("command", [("run", "--rules"), ("check",), ("ca", "--confdir", "conf", "--rules")])
def test_a_file_in_the_place_of_its_folder(folder: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    told = f"mitmgate {command[0]}: mine/rules.yaml is a file; give the folder that holds it: mine\n"
    assert wrong(capsys, *command, "mine/rules.yaml") == told
    (folder / "mine" / "teams").mkdir()
    (folder / "mine" / "teams" / "search.yaml").touch()
    told = f"mitmgate {command[0]}: mine/teams/search.yaml is a file; give the folder of rules that it belongs to: mine\n"
    assert wrong(capsys, *command, "mine/teams/search.yaml") == told
    assert wrong(capsys, *command, "yours").startswith(f"mitmgate {command[0]}: there is no folder yours")
    assert not (folder / "conf").exists()


def test_run_where_there_are_no_rules_names_the_option(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert wrong(capsys, "run") == "mitmgate run: there is no folder rules; name the folder of rules with --rules DIR\n"


@pytest.mark.parametrize("mode", ["bogus", "reverse", "reverse:ftp://a.example", "socks5@x"])
def test_a_mode_that_is_none_is_named(folder: Path, capsys: pytest.CaptureFixture[str], mode: str) -> None:
    assert f"argument --mode: '{mode}': " in wrong(capsys, "run", "--rules", "mine", "--mode", mode)


def test_a_route_without_any_key_names_the_variables(folder: Path) -> None:
    command = [sys.executable, "-m", "mitmgate", "run", "--rules", "mine", "--confdir", "conf"]
    environ = {name: value for name, value in os.environ.items() if name not in ("OPENAI_API_KEY", "GROQ_API_KEY")}
    environ["PYTHONPATH"] = str(Path(mitmgate.__file__).parents[1])
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "mitmgate run: rules.yaml:4: a has no active target: no key in OPENAI_API_KEY (openai), no key in GROQ_API_KEY (groq)\n"
    )


# ca: where clients find the gateway


def listening(folder: Path, written: str) -> None:
    (folder / "mine" / "listen.yaml").write_text(f"access: open\nlisten: {{{written}}}\n")


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("proxy: 127.0.0.1:9080", "127.0.0.1:9080"),
        ("proxy: '[::1]:9080'", "[::1]:9080"),
        ("proxy: 10.1.2.3:9080, hosts: [gateway.corp.example]", "10.1.2.3:9080"),
        ("proxy: 0.0.0.0:9080", "127.0.0.1:9080"),
        ("proxy: '[::]:9080', hosts: [gateway.corp.example, other]", "gateway.corp.example:9080"),
        ("admin: 127.0.0.1:9081", "127.0.0.1:8080"),
    ],
)
def test_the_rules_say_where_clients_find_the_gateway(
    folder: Path, capsys: pytest.CaptureFixture[str], written: str, address: str
) -> None:
    listening(folder, written)
    assert main(["ca", "--rules", "mine", "--confdir", "conf"]) == 0
    assert re.search(rf"^export HTTPS_PROXY='?http://{re.escape(address)}'? ", capsys.readouterr().out, re.MULTILINE)
    assert main(["ca", "--rules", "mine", "--pac"]) == 0
    assert f'"PROXY {address}"' in capsys.readouterr().out
    assert main(["ca", "--rules", "mine", "--pac", "--proxy", "proxy.example:1"]) == 0
    assert '"PROXY proxy.example:1"' in capsys.readouterr().out


def test_a_port_that_the_system_chooses_has_to_be_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listening(folder, "proxy: 127.0.0.1:0")
    place = ("ca", "--rules", "mine", "--confdir", "conf")
    assert "--proxy HOST:PORT" in wrong(capsys, *place)
    assert "--proxy HOST:PORT" in wrong(capsys, *place, "--pac")
    assert not (folder / "conf").exists()
    assert main([*place, "--proxy", "127.0.0.1:9"]) == 0
    for without_address in (["--path"], ["--bundle"], ["rotate"]):
        assert main([*place, *without_address]) == 0


def test_a_bundle_that_cannot_be_written_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("ca", "--confdir", "conf", "--bundle")
    assert wrong(capsys, *place, "mine") == "mitmgate ca: --bundle takes a file; mine is a folder\n"
    assert wrong(capsys, *place, "yours/all.pem") == "mitmgate ca: --bundle: there is no folder yours\n"


def test_an_address_that_is_not_this_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--host", "192.0.2.1", "--port", "0"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("mitmgate simulate: cannot listen at 192.0.2.1 port 0: ")
    assert "address" in said.removeprefix("mitmgate simulate: cannot listen at ")
