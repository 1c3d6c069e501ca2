"""`mitmgate simulate` as an operator runs it."""

import argparse
import re
import signal
import subprocess
import sys

import httpx
import pytest

from mitmgate.cli import simulate
from mitmgate.exchange import Origin
from mitmgate.simulator.faults import DIRECTIVES

RUN = """
import argparse, sys
from mitmgate.cli import simulate
parser = argparse.ArgumentParser()
simulate.add_arguments(parser)
sys.exit(simulate.main(parser.parse_args()))
"""


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    return parser.parse_args(given)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_until_it_is_told_to_stop(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", RUN, "--port", "0"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            lines = [running.stdout.readline() for _ in range(3 + len(DIRECTIVES))]
            url = re.search(r"http://127\.0\.0\.1:[0-9]+/v1", lines[0])
            assert url is not None
            assert lines[1].startswith(f"curl {url[0]}/chat/completions ")
            assert all(directive in "".join(lines) for directive in DIRECTIVES)
            assert httpx.get(f"{url[0]}/models", trust_env=False).status_code == 200
        finally:
            running.send_signal(number)
        assert running.wait(10) == 0


async def test_a_taken_port_is_told(origin: Origin) -> None:
    taken = [sys.executable, "-c", RUN, "--port", str(origin.port)]
    done = subprocess.run(taken, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert f"cannot listen at 127.0.0.1 port {origin.port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_arguments() -> None:
    assert vars(arguments()) == {"host": "127.0.0.1", "port": 8082}
    for wrong in ("-1", "65536", "http"):
        with pytest.raises(SystemExit) as refused:
            arguments("--port", wrong)
        assert refused.value.code == 2
