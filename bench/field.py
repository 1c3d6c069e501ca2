"""The benchmark's cast: the upstream, the proxies under test and the clients, each a process of its own."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trustme
from clients import Order, Outcome
from meter import cpu
from side import HERE, Side, stop

MITMGATE = [sys.executable, "-P", "-m", "mitmgate"]
MITMDUMP = [sys.executable, "-P", "-c", "from mitmproxy.tools.main import mitmdump; mitmdump()", "-q"]
TLS_OPTIONS = ["--set", "connection_strategy=lazy", "--set", "upstream_cert=false", "--ssl-insecure"]
START = 30.0  # seconds that a proxy may take to listen
HOST = "api.openai.com"
RECORD = b'{"time":'

RULES = """\
version: 1
listen: {{proxy: 127.0.0.1:{proxy}, admin: 127.0.0.1:{admin}}}
intercept: [api.openai.com]
providers:
  bench: {{dialect: openai, base_url: "{base_url}", credential: {{value: bench}}, zone: internal{ca}}}
routes:
  - name: bench
    match: {{model: gpt-4o-mini}}
    targets: [{{provider: bench, model: gpt-4o-mini}}]
    retry: {{max: 2, on: [connect, timeout, 408, 409, 429, 5xx], backoff: {{base: 500ms, max: 8s}}}}
"""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The running upstream and its certificate authority's file."""

    http: int
    https: int
    ca: Path

    def served(self) -> dict[str, int]:
        """Its counters."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=10)
        try:
            connection.request("GET", "/stats")
            counts: dict[str, int] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return counts


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to be measured: how clients reach it and, but for the upstream itself, its process."""

    name: str
    port: int
    pid: int | None = None
    log: Path | None = None
    admin: int | None = None
    authority: str | None = None
    server_name: str | None = None
    ca: Path | None = None

    def order(self, **fields: Any) -> Order:
        """An `Order` for clients of this contender; `fields` are the load's own."""
        return Order(port=self.port, host=self.server_name or f"127.0.0.1:{self.port}", authority=self.authority,
                     server_name=self.server_name, ca=str(self.ca) if self.ca else None, **fields)


def free_port() -> int:
    """A port that the system says is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def upstream(folder: Path, encoded: Path | None = None) -> Iterator[Upstream]:
    """The upstream, with a certificate for `localhost` by a throw-away authority; `encoded`: bodies to answer with."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    certificate = folder / "upstream.pem"
    authority.issue_cert("localhost", "127.0.0.1", HOST,
                         key_type=trustme.KeyType.ECDSA).private_key_and_cert_chain_pem.write_to_path(str(certificate))
    authority.cert_pem.write_to_path(str(folder / "upstream-ca.pem"))
    command = [sys.executable, str(HERE / "upstream.py"), "--certificate", str(certificate)]
    process = subprocess.Popen([*command, "--encoded", str(encoded)] if encoded else command,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        yield Upstream(ports["http"], ports["https"], folder / "upstream-ca.pem")
    finally:
        stop(process)


@contextmanager
def started(command: list[str], port: int, log: Path) -> Iterator[int]:
    """A proxy's process, from the moment it accepts connections; yields its pid, its output goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            until = time.monotonic() + START
            while not listening(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{' '.join(command)}\ndid not start; it said:\n{log.read_text()[-4000:]}")
                time.sleep(0.05)
            yield process.pid
        finally:
            stop(process)


def listening(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def authority_in(confdir: Path) -> None:
    """Give mitmproxy a P-256 authority in place of the RSA-2048 one that it would make for itself."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    confdir.mkdir(parents=True)
    (confdir / "mitmproxy-ca.pem").write_bytes(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
    (confdir / "mitmproxy-ca-cert.pem").write_bytes(authority.cert_pem.bytes())


@dataclass(frozen=True, slots=True)
class Field:
    """Where contenders are started: a folder of their own for each, one upstream for all."""

    folder: Path
    upstream: Upstream

    @contextmanager
    def contender(self, name: str) -> Iterator[Contender]:
        """Start one by its name; `NAMES` lists them."""
        folder = self.folder / f"{name}-{len(list(self.folder.glob(f'{name}-*')))}"
        folder.mkdir()
        who, _, way = name.partition("-")
        if who == "upstream":
            tls = way == "tls"
            yield Contender(name, self.upstream.https if tls else self.upstream.http,
                            server_name="localhost" if tls else None, ca=self.upstream.ca if tls else None)
        elif who == "mitmdump":
            with self._mitmdump(name, way, folder) as contender:
                yield contender
        else:
            with self._mitmgate(name, way, folder) as contender:
                yield contender

    @contextmanager
    def _mitmdump(self, name: str, way: str, folder: Path) -> Iterator[Contender]:
        """Bare mitmdump. `-streamed`: told to stream bodies, else it collects them; `-p256`: another authority."""
        port, confdir, log = free_port(), folder / "conf", folder / "log"
        command = [*MITMDUMP, "--listen-host", "127.0.0.1", "--listen-port", str(port), "--set", f"confdir={confdir}"]
        if way.endswith("streamed"):
            command += ["--set", "stream_large_bodies=1"]
        if way.endswith("p256"):
            authority_in(confdir)
        if way.startswith("reverse"):
            command += ["--mode", f"reverse:http://127.0.0.1:{self.upstream.http}"]
            with started(command, port, log) as pid:
                yield Contender(name, port, pid, log)
        else:
            with started([*command, *TLS_OPTIONS], port, log) as pid:
                yield Contender(name, port, pid, log, authority=f"localhost:{self.upstream.https}",
                                server_name="localhost", ca=confdir / "mitmproxy-ca-cert.pem")

    @contextmanager
    def _mitmgate(self, name: str, way: str, folder: Path) -> Iterator[Contender]:
        """The gateway with one route, retries, metrics and records."""
        port, admin, confdir, log = free_port(), free_port(), folder / "conf", folder / "log"
        rules = folder / "rules"
        rules.mkdir()
        tls = way == "tls"
        base_url = f"https://localhost:{self.upstream.https}/v1" if tls else f"http://127.0.0.1:{self.upstream.http}/v1"
        (rules / "bench.yaml").write_text(RULES.format(
            proxy=port, admin=admin, base_url=base_url, ca=f', ca: "{self.upstream.ca}"' if tls else ""))
        command = [*MITMGATE, "run", "--rules", str(rules), "--confdir", str(confdir)]
        if way == "reverse":
            command += ["--mode", f"reverse:http://127.0.0.1:{self.upstream.http}@127.0.0.1:{port}"]
        with started(command, port, log) as pid:
            yield Contender(name, port, pid, log, admin, authority=f"{HOST}:443" if tls else None,
                            server_name=HOST if tls else None, ca=confdir / "mitmproxy-ca-cert.pem" if tls else None)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one order: what the clients saw, what the proxy spent, what the upstream served meanwhile."""

    outcome: Outcome
    cpu: float
    served: dict[str, int]
    records: int | None             # lines of the gateway's record log; None: no gateway


class Clients(Side):
    """A process of clients, warmed up; `tell` starts its load and `outcome` waits for the end of it.

    Their connections stay open until `stop`.
    """

    def __init__(self, order: Order) -> None:
        super().__init__("clients.py", [json.dumps(asdict(order))])
        self.order = order

    def outcome(self) -> Outcome:
        """What came of the load."""
        return Outcome(**json.loads(self.line()))


def records(log: Path) -> int:
    """The records in a gateway's output, once it has stopped growing: they are written behind the requests."""
    size = -1
    while size != (size := log.stat().st_size):
        time.sleep(0.2)
    with log.open("rb") as lines:
        return sum(line.startswith(RECORD) for line in lines)


def run(contender: Contender, source: Upstream, order: Order) -> Run:
    """Carry out one order and read the counters right before and after its load."""
    recording = contender.log if contender.admin else None
    clients = Clients(order)
    try:
        recorded = records(recording) if recording else 0
        served, spent = source.served(), cpu(contender.pid) if contender.pid else 0.0
        clients.tell()
        outcome = clients.outcome()
        spent = (cpu(contender.pid) if contender.pid else 0.0) - spent
        after = source.served()
    finally:
        clients.stop()
    return Run(outcome, spent, {key: after[key] - served[key] for key in after},
               records(recording) - recorded if recording else None)
