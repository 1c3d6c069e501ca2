"""`mitmgate run`: the gateway, until it is told to stop."""

import argparse
import asyncio
import gc
import logging
import os
import sys
from pathlib import Path
from typing import Final

import uvloop
from mitmproxy.exceptions import OptionsError

from mitmgate.cli import KEY_LOG_ASKED
from mitmgate.rules.positions import RulesError
from mitmgate.transport.confdir import AuthorityError
from mitmgate.transport.house import House
from mitmgate.transport.serving import SIGNALS, Serving
from mitmgate.transport.tls import refuse_key_log

GC_THRESHOLDS: Final = (20_000, 20, 20)
"""Allocations before a collection: a request leaves some hundred objects in cycles, and the default looks at each request."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--rules", type=Path, default=Path("rules"), metavar="DIR", help="the folder of rules (default: rules)")
    parser.add_argument(
        "--mode", action="append", metavar="MODE",
        help="a mitmproxy mode, such as reverse:https://host, socks5 or transparent (default: regular); may be repeated",
    )
    parser.add_argument(
        "--confdir", type=Path, default=Path("~/.mitmgate"), metavar="DIR", help="where the CA lives (default: ~/.mitmgate)"
    )


def main(args: argparse.Namespace) -> int:
    """Exit codes: 0 stopped when told, 1 it could not start, 2 wrong usage."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if not args.rules.is_dir():
        print(f"mitmgate run: {args.rules} is not a folder of rules", file=sys.stderr)
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
    for warning in house.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    serving = Serving(house, confdir, tuple(args.mode or ()))
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, serving.stop)
    gc.collect()
    gc.freeze()                             # what lives as long as we do need not be walked again and again
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        served = await serving.run(lambda: print(_welcome(house), file=sys.stderr, flush=True))
    finally:
        await house.close()
    return 0 if served else 1


def _welcome(house: House) -> str:
    """Three lines that can be pasted."""
    proxy, certificate = house.proxy_url, house.authority.certificate_path
    body = '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}'
    return "\n".join(
        (
            f"curl {proxy}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
            f"HTTPS_PROXY={proxy} SSL_CERT_FILE={certificate} python your_application.py",
            f"{house.admin_url}/readyz",
        )
    )
