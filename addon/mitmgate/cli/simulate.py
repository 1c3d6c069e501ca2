"""`mitmgate simulate`: the simulator alone, until it is interrupted."""

import argparse
import asyncio
import contextlib
import signal
import sys

from mitmgate.exchange import Origin
from mitmgate.simulator.faults import DIRECTIVES, HEADER
from mitmgate.simulator.server import Simulator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--port", type=_port, default=8082, help="the port; 0 lets the system choose (default: 8082)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: 127.0.0.1)")


def main(args: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM: 0. If it cannot listen: 1."""
    try:
        asyncio.run(_serve(args.host, args.port))
    except KeyboardInterrupt:
        return 0  # where the loop takes no signal handlers (Windows)
    except OSError as error:
        why = error.strerror or "this machine has no such address"  # the one error to which asyncio gives no number
        print(f"mitmgate simulate: cannot listen at {args.host} port {args.port}: {why}", file=sys.stderr)
        return 1
    return 0


async def _serve(host: str, port: int) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
    simulator = Simulator()
    print(_welcome(await simulator.start(host, port)), flush=True)
    try:
        await ended.wait()
    finally:
        await simulator.stop()


def _welcome(origin: Origin) -> str:
    width = max(map(len, DIRECTIVES))
    directives = "\n".join(f"  {form:{width}}  {meaning}" for form, meaning in DIRECTIVES.items())
    message = '{"model":"sim-1","messages":[{"role":"user","content":"Hello"}]}'
    return (
        f"The simulator answers at {origin}/v1 and needs no key. Try it:\n"
        f"curl {origin}/v1/chat/completions -H 'content-type: application/json' -d '{message}'\n"
        f"Faults on request, as a header `{HEADER}: latency=200ms, status=503`:\n"
        f"{directives}"
    )


def _port(text: str) -> int:
    """A port number, for argparse."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)
