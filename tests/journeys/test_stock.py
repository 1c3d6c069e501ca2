"""The same addon inside a stock mitmproxy: `mitmdump -s addon/script.py`, `mitmweb -s addon/script.py`."""

import contextlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from rig import behaviours as does
from rig.starts import StartUpstream

SCRIPT = Path(__file__).parents[2] / "addon" / "script.py"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(port: int, log: Path) -> bool:
    """The port listens before the script has put the gateway in; what was connected till then is not served."""
    with contextlib.suppress(httpx.HTTPError), httpx.Client(trust_env=False, timeout=1) as client:
        return client.get(f"http://127.0.0.1:{port}/v1/models").status_code == 200
    return False


def refuses(port: int, log: Path) -> bool:
    """It has said why it does not start."""
    return "does not start" in log.read_text()


@contextlib.contextmanager
def stock(
    program: str, folder: Path, rules: str, *options: str, until: Callable[[int, Path], bool] = answers
) -> Iterator[tuple[str, Path]]:
    """A stock mitmproxy program with the script; gives its base URL and its log."""
    confdir, rules_dir, port = folder / "conf", folder / "rules", free_port()
    confdir.mkdir(mode=0o700)
    rules_dir.mkdir()
    (rules_dir / "a.yaml").write_text(rules)
    log = folder / "log"
    command = [
        str(Path(sys.executable).parent / program), "-s", str(SCRIPT), "--set", f"mitmgate_rules={rules_dir}",
        "--set", f"confdir={confdir}", "--listen-host", "127.0.0.1", "-p", str(port), *options,
    ]
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={"HOME": str(folder)})
    try:
        end = time.monotonic() + 30
        while not (listens(port) and until(port, log)):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", log
    finally:
        child.terminate()
        child.wait(10)


def rules(first: int, second: int) -> str:
    return f"""
version: 1
listen: {{admin: "127.0.0.1:0"}}
providers:
  first: {{dialect: openai, base_url: "http://127.0.0.1:{first}/v1"}}
  second: {{dialect: openai, base_url: "http://127.0.0.1:{second}/v1"}}
routes:
  - {{name: both, targets: [{{provider: first}}], fallback: [{{provider: second}}], retry: {{max: 0}}}}
"""


@pytest.mark.parametrize("program", ["mitmdump", "mitmweb"])
def test_a_failed_target_and_a_stream(program: str, tmp_path: Path, upstream: StartUpstream) -> None:
    first, second = upstream(does.status(500)), upstream(does.ok("from the second"))
    options = ("--set", f"web_port={free_port()}", "--no-web-open-browser") if program == "mitmweb" else ("-q",)
    with stock(program, tmp_path, rules(first.port, second.port), *options) as (base_url, log):
        with httpx.Client(trust_env=False, timeout=10) as client:
            whole = client.post(f"{base_url}/chat/completions", json=CHAT)
            streamed = client.post(f"{base_url}/chat/completions", json={**CHAT, "stream": True})
        assert whole.status_code == 200, log.read_text()
        assert "from the second" in whole.text
        assert whole.headers["x-gateway-attempts"] == "2"
        assert streamed.text.endswith("data: [DONE]\n\n")
        assert "has crashed" not in log.read_text()


def test_broken_rules_let_nothing_through(tmp_path: Path, upstream: StartUpstream) -> None:
    server = upstream(does.ok())
    with stock("mitmdump", tmp_path, "version: 1\nroots: []\n", "-q", until=refuses) as (base_url, log):
        proxy = base_url.removesuffix("/v1")
        with httpx.Client(proxy=proxy, trust_env=False, timeout=2) as client, pytest.raises(httpx.HTTPError):
            client.post(f"http://127.0.0.1:{server.port}/v1/chat/completions", json=CHAT)
        assert server.untouched
        assert "nothing passes" in log.read_text()


def test_interception_inside_a_stock_mitmproxy(tmp_path: Path, upstream: StartUpstream) -> None:
    server = upstream(does.ok("from the provider"))
    text = rules(server.port, server.port).replace("providers:", "intercept: [llm.test]\nproviders:")
    with stock("mitmdump", tmp_path, text, "-q") as (base_url, log):
        proxy, ca = base_url.removesuffix("/v1"), str(tmp_path / "conf" / "mitmproxy-ca-cert.pem")
        trust = ssl.create_default_context(cafile=ca)
        for http2 in (False, True):
            with httpx.Client(proxy=proxy, verify=trust, trust_env=False, timeout=10, http2=http2) as client:
                reply = client.post("https://llm.test/v1/chat/completions", json=CHAT)
            assert reply.status_code == 200, log.read_text()
            assert "from the provider" in reply.text


def test_all_interfaces_need_the_rules_word(tmp_path: Path, upstream: StartUpstream) -> None:
    server = upstream(does.ok())
    text = rules(server.port, server.port)
    with stock("mitmdump", tmp_path, text, "-q", "--listen-host", "0.0.0.0", until=refuses) as (base_url, log):
        with httpx.Client(trust_env=False, timeout=2) as client, pytest.raises(httpx.HTTPError):
            client.post(f"{base_url}/chat/completions", json=CHAT)
        assert "would let anybody call" in log.read_text()
