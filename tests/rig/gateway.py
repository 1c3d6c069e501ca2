"""The real gateway as a subprocess, with its own rules, confdir and log, all in a folder of the test."""

import http.client
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ruamel.yaml import YAML

type Rules = str | Mapping[str, Any]
"""One rules file as YAML text, a document (written as JSON, which is YAML), or, by file name, several of both kinds and
the files that they name; what has a `*.yaml` among its keys is the last of these."""

START = 20.0
"""Seconds that the gateway may take until it is ready."""

_PROXY = re.compile(r"curl https?://127\.0\.0\.1:([0-9]+)/v1/")
_ADMIN = re.compile(r"http://127\.0\.0\.1:([0-9]+)/readyz\n")


class Gateway:
    """`mitmgate run`, started by the constructor, which returns when /readyz answers 200."""

    def __init__(
        self,
        folder: Path,
        rules: Rules,
        *,
        modes: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        listen: Mapping[str, Any] | None = None,
        program: Sequence[str] = ("-m", "mitmgate"),
    ) -> None:
        self.folder = folder
        self.proxy_port = self.admin_port = 0  # the system chooses; the gateway's first lines say what
        self.confdir = folder / "conf"
        self._rules_dir = folder / "rules"
        self._write(rules, listen or {})
        (folder / "home").mkdir()
        command = [sys.executable, *program, "run", "--rules", str(self._rules_dir)]
        command += ["--confdir", str(self.confdir)]
        command += [part for mode in modes for part in ("--mode", mode)] + list(arguments)
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder, env=self._environment(env or {})
            )
        try:
            self._await_ready()
        except BaseException:
            self.kill()
            raise

    @property
    def base_url(self) -> str:
        """For clients that are pointed at the gateway."""
        return f"http://127.0.0.1:{self.proxy_port}/v1"

    @property
    def authority(self) -> str:
        """What a direct call's Host says."""
        return f"127.0.0.1:{self.proxy_port}"

    @property
    def origin(self) -> str:
        """Where `base_url` lives."""
        return f"http://127.0.0.1:{self.proxy_port}"

    @property
    def proxy_url(self) -> str:
        """For HTTPS_PROXY."""
        return f"http://127.0.0.1:{self.proxy_port}"

    @property
    def admin_url(self) -> str:
        """Health and metrics."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def ca_path(self) -> Path:
        """The certificate that clients of the proxy must trust."""
        return self.confdir / "mitmproxy-ca-cert.pem"

    def records(self, count: int = 0, within: float = 5.0) -> list[dict[str, Any]]:
        """The records so far, at least `count` of them: waited for, AssertionError when they do not come."""
        end = time.monotonic() + within
        while True:
            found = [line for line in map(_record, self._stdout.read_text("utf-8", "replace").splitlines()) if line]
            if len(found) >= count:
                return found
            assert time.monotonic() < end, f"{len(found)} of {count} records within {within} s\n{self.log()[-3000:]}"
            time.sleep(0.02)

    def record(self, wanted: str, of: str = "id", within: float = 5.0) -> dict[str, Any]:
        """The one record whose field `of` is `wanted`, waited for: records are written a little after the reply."""
        end = time.monotonic() + within
        while not (found := [each for each in self.records() if each.get(of) == wanted]):
            assert time.monotonic() < end, f"no record with {of} {wanted} within {within} s\n{self.log()[-3000:]}"
            time.sleep(0.02)
        assert len(found) == 1, f"several records of one exchange: {found}"
        return found[0]

    def log(self) -> str:
        """What it wrote, records included; stderr last."""
        return self._stdout.read_text("utf-8", "replace") + self._stderr.read_text("utf-8", "replace")

    def errors(self) -> str:
        """What it wrote for operators, without the records."""
        return self._stderr.read_text("utf-8", "replace")

    def admin(self, path: str, within: float = 5.0) -> tuple[int, str]:
        """GET on the admin port: status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=within)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def rewrite(self, rules: Rules) -> None:
        """Replaces its rules files, as an operator would; ports stay."""
        for old in self._rules_dir.glob("*.yaml"):
            if old.name != "00-listen.yaml":
                old.unlink()
        self._write_files(rules)

    def stop(self, within: float = 15.0) -> int:
        """SIGTERM; the exit code. Killed, and AssertionError, when it takes longer than `within` seconds."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the gateway did not stop within {within} s\n{self.log()[-3000:]}") from None

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()
        self.child.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write(self, rules: Rules, listen: Mapping[str, Any]) -> None:
        self._rules_dir.mkdir(parents=True)
        ports = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0", **listen}
        (self._rules_dir / "00-listen.yaml").write_text(json.dumps({"version": 1, "listen": ports}))
        self._write_files(rules)

    def _write_files(self, rules: Rules) -> None:
        if isinstance(rules, str):
            files: Mapping[str, Any] = {"10-rules.yaml": rules}
        elif any(name.endswith(".yaml") for name in rules):
            files = rules
        else:
            files = {"10-rules.yaml": rules}
        for name, content in files.items():
            path = self._rules_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Little: nothing of the machine's keys and proxies may reach the gateway."""
        spec = importlib.util.find_spec("mitmgate")
        assert spec is not None, "mitmgate is not installed, and not on PYTHONPATH"
        assert spec.origin is not None
        package = str(Path(spec.origin).parent.parent)
        least = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder / "home"), "PYTHONPATH": package}
        return {**least, "PYTHONUNBUFFERED": "1", **more}

    def _await_ready(self) -> None:
        end = time.monotonic() + START
        while time.monotonic() < end:
            if self.child.poll() is not None:
                raise AssertionError(f"the gateway ended with {self.child.returncode}\n{self.log()[-3000:]}")
            if not self.admin_port:
                self._read_ports()
            elif self._is_ready():
                return
            time.sleep(0.05)
        raise AssertionError(f"the gateway was not ready within {START} s\n{self.log()[-3000:]}")


    def _read_ports(self) -> None:
        """From the three lines that it prints for people to paste."""
        told = self._stderr.read_text("utf-8", "replace")
        proxy, admin = _PROXY.search(told), _ADMIN.search(told)
        if proxy and admin:
            self.proxy_port, self.admin_port = int(proxy[1]), int(admin[1])

    def _is_ready(self) -> bool:
        try:
            return self.admin("/readyz", within=1)[0] == 200
        except (OSError, http.client.HTTPException):
            return False


def shipped_rules() -> dict[str, Any]:
    """The rules that a fresh checkout starts with, by file name, without what the rig writes itself."""
    folder = Path(__file__).parents[2] / "rules"
    yaml = YAML(typ="safe")
    documents = {path.name: yaml.load(path.read_text()) or {} for path in sorted(folder.glob("*.yaml"))}
    assert documents, f"no rules in {folder}"
    ours = ("version", "listen")
    return {name: {key: value for key, value in each.items() if key not in ours} for name, each in documents.items()}


def _record(line: str) -> dict[str, Any] | None:
    """The record in a line of stdout; other lines are for people."""
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) and "id" in document else None
