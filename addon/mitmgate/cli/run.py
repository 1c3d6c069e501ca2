"""`mitmgate run`: the gateway, until it is told to stop."""

import argparse
import asyncio
import gc
import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Final

import uvloop
from mitmproxy.exceptions import OptionsError
from mitmproxy.proxy.mode_specs import ProxyMode

from mitmgate.cli import KEY_LOG_ASKED
from mitmgate.cli.ca import trust_file
from mitmgate.cli.folders import wrong_folder
from mitmgate.cli.warnings import marked, warnings
from mitmgate.providers.credentials import key_sources, source_of
from mitmgate.rules.positions import RulesError
from mitmgate.transport.confdir import AuthorityError
from mitmgate.transport.house import House
from mitmgate.transport.serving import SIGNALS, Serving
from mitmgate.transport.tls import refuse_key_log

GC_THRESHOLDS: Final = (20_000, 20, 20)
"""Allocations before a collection: a request leaves some hundred objects in cycles, and the default looks at each request."""
_WARNINGS_SHOWN: Final = 20                 # of the rules, at the start

_FOR_A_REAL_PROVIDER: Final = (
    "the simulator answers every call; for OpenAI write `openai: {}` under `providers:`, name it in a route, "
    "and set its key in OPENAI_API_KEY"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--rules", type=Path, default=Path("rules"), metavar="DIR", help="the folder of rules (default: rules)")
    parser.add_argument(
        "--mode", action="append", type=_mode, metavar="MODE",
        help="a mitmproxy mode, such as reverse:https://host, socks5 or transparent (default: regular); may be repeated",
    )
    parser.add_argument(
        "--confdir", type=Path, default=Path("~/.mitmgate"), metavar="DIR", help="where the CA lives (default: ~/.mitmgate)"
    )


def main(args: argparse.Namespace) -> int:
    """Exit codes: 0 stopped when told, 1 it could not start, 2 wrong usage."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("mitmgate").setLevel(logging.INFO)    # what it did, a reload say, is told; mitmproxy's chatter is not
    if wrong := wrong_folder(args.rules):
        advice = "" if args.rules.exists() else "; name the folder of rules with --rules DIR"
        print(f"mitmgate run: {wrong}{advice}", file=sys.stderr)
        return 2
    if refuse_key_log() or KEY_LOG_ASKED:
        print("mitmgate run: TLS keys are not logged here; SSLKEYLOGFILE is ignored", file=sys.stderr)
    try:
        return uvloop.run(_run(args))
    except RulesError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
    except (AuthorityError, OptionsError, OSError, ValueError) as error:
        print(f"mitmgate run: {error}", file=sys.stderr)
    return 1


async def _run(args: argparse.Namespace) -> int:
    confdir = args.confdir.expanduser()
    house = House(args.rules, confdir, dict(os.environ))
    await house.build()
    for warning in (*house.warnings, *_empty_keys(house)):
        print(f"warning: {warning}", file=sys.stderr)
    for doubt in _doubts(house):
        print(doubt, file=sys.stderr)
    if _only_simulated(house):
        print(f"note: {_FOR_A_REAL_PROVIDER}", file=sys.stderr)
    serving = Serving(house, confdir, tuple(args.mode or ()))
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, serving.stop)
    loop.add_signal_handler(signal.SIGHUP, house.reloading.ask)
    gc.collect()
    gc.freeze()                             # what lives as long as we do need not be walked again and again
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        served = await serving.run(lambda: print(_welcome(house, confdir), file=sys.stderr, flush=True))
    finally:
        await house.close()
    return 0 if served else 1


def _empty_keys(house: House) -> list[str]:
    """What is called without a key until it is there. Not for /readyz: a file may be filled at any time."""
    rules, snapshot = house.snapshot.rules, house.snapshot
    empty = [
        f"no key in {key_sources(name, rules.providers[name])}: {name} is called without a key until it is there"
        for name, provider in snapshot.providers.items()
        if provider.active and provider.credential is not None and provider.credential.secret() is None
    ]
    asked, found = rules.egress and rules.egress.credential, snapshot.egress_credential
    if asked and (found is None or found.secret() is None):
        empty.append(f"no credential in {source_of(asked, 'egress')}: the proxy of egress is asked without one")
    return empty


def _doubts(house: House) -> list[str]:
    """What `check` warns of, the first ones, in its words; keys are told already."""
    snapshot = house.snapshot
    found = warnings(snapshot.rules, snapshot.folder, os.environ, keys=False)
    more = len(found) - _WARNINGS_SHOWN
    told = [marked(problem) for problem in found[:_WARNINGS_SHOWN]]
    return [*told, f"{more} more warnings: mitmgate check {shlex.quote(str(snapshot.folder))}"] if more > 0 else told


def _only_simulated(house: House) -> bool:
    providers = house.snapshot.providers.values()
    return bool(providers) and all(provider.dialect == "simulator" for provider in providers)


def _bundle(house: House, confdir: Path) -> str:
    """For a shell: the file of CAs for clients of the proxy, or the command that writes it and prints its path."""
    if found := trust_file(house.authority, confdir):
        return shlex.quote(str(found))
    place = ("--rules", str(house.snapshot.folder.absolute()), "--confdir", str(confdir.absolute()))
    return f'"$({shlex.join((sys.executable, "-m", "mitmgate", "ca", *place, "--bundle"))})"'


def _welcome(house: House, confdir: Path | None = None) -> str:
    """Three lines that can be pasted. `confdir`: where the CA lives, if that is not beside its certificate."""
    proxy, bundle = house.proxy_url, _bundle(house, confdir or house.authority.certificate_path.parent)
    body = '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}'
    return "\n".join(
        (
            f"curl {proxy}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
            f"BUNDLE={bundle}; HTTPS_PROXY={proxy} SSL_CERT_FILE=$BUNDLE REQUESTS_CA_BUNDLE=$BUNDLE python your_application.py",
            f"curl {house.admin_url}/readyz",
        )
    )


def _mode(text: str) -> str:
    """A mode of mitmproxy's, for argparse."""
    try:
        ProxyMode.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {str(error).strip(': ')}") from error
    return text
