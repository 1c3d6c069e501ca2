"""Decompression bombs: what they cost the gateway's memory, and everybody else's patience (THREATS, row 8).

    python bench/bombs.py [--times 20] [--quick] [--json FILE]

Each encoding, sent by a client and sent by a provider, as a body and as an event stream: a bomb, which must be refused,
and the largest body that is let through. Meanwhile the loop is probed every 5 ms. Prints Markdown. The exit code is 1
when an answer was not the expected one; no figure of time or size ever decides it.
"""

import argparse
import http.client
import json
import secrets
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import brotli  # type: ignore[import-untyped]
import zstandard
from besieged import Besieged, besieged, probed
from field import upstream
from gateway import machine, tell
from meter import read
from probe import Lag

MIB = 1 << 20
BOMB = 128                  # MiB of zeros
LARGEST = 62                # MiB of JSON, within `limits.request_body` and 100 times its size as it is sent
PROBE_MS = 5.0
ENCODINGS = ("gzip", "deflate", "br", "zstd")
ASK: dict[str, object] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
REPLY: dict[str, object] = {
    "id": "chatcmpl-bench", "object": "chat.completion", "created": 1700000000, "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}]}


@dataclass(frozen=True, slots=True)
class Case:
    """One body, one way, and the status that must come of it."""

    side: str               # request, reply or stream
    body: str               # bomb or largest
    encoding: str
    status: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a case did to the gateway; memory in MiB, beyond what it had."""

    case: Case
    sent: int               # bytes of the encoded body
    took: float             # milliseconds until the answer, the median
    memory: float
    lag: Lag
    answers: dict[str, int]

    @property
    def good(self) -> bool:
        """Whether all answers were the expected one."""
        return set(self.answers) == {str(self.case.status)}


CASES = tuple(
    Case(side, body, encoding, status)
    for side, body, status in (("request", "bomb", 413), ("reply", "bomb", 502), ("stream", "bomb", 502),
                               ("request", "largest", 200), ("reply", "largest", 200))
    for encoding in ENCODINGS
)


def packed(encoding: str, pieces: Iterable[bytes]) -> bytes:
    """Encoded piece by piece, so that a bomb is never in memory as such."""
    if encoding == "br":
        brotling = brotli.Compressor(quality=5)
        return b"".join(brotling.process(piece) for piece in pieces) + bytes(brotling.finish())
    if encoding == "zstd":
        frame = zstandard.ZstdCompressor().compressobj()
        return b"".join(frame.compress(piece) for piece in pieces) + frame.flush()
    deflating = zlib.compressobj(9, zlib.DEFLATED, {"gzip": 31, "deflate": 15}[encoding])
    return b"".join(deflating.compress(piece) for piece in pieces) + deflating.flush()


def largest(document: dict[str, object]) -> list[bytes]:
    """A document with noise, so that it does not expand too much, and a very long text."""
    noise = secrets.token_hex(MIB)
    return [json.dumps(document).encode()[:-1], f', "noise": "{noise}", "text": "'.encode(),
            *[b"x" * MIB] * (LARGEST - 3), b'"}']


def written(folder: Path, kinds: tuple[str, ...]) -> Path:
    """The bodies as files, named by side, kind and encoding."""
    folder.mkdir()
    for encoding in ENCODINGS:
        bomb = packed(encoding, [bytes(MIB)] * BOMB)
        for side in ("request", "reply", "stream"):
            (folder / f"{side}-bomb.{encoding}").write_bytes(bomb)
        for side, document in (("request", ASK), ("reply", REPLY)) if "largest" in kinds else ():
            (folder / f"{side}-largest.{encoding}").write_bytes(packed(encoding, largest(document)))
    return folder


def sender(gateway: Besieged, case: Case, bodies: Path) -> Callable[[], str]:
    """What makes one call and returns what came of it: the status, or the error's name."""
    name = f"{case.side}-{case.body}.{case.encoding}"
    headers = {"content-type": "application/json"}
    if case.side == "request":
        headers["content-encoding"] = case.encoding
        body = (bodies / name).read_bytes()
    else:
        body = json.dumps({**ASK, "encoded": name, "stream": case.side == "stream"}).encode()

    def send() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        try:
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            while answer.read(MIB):
                pass
            return str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()

    return send


def suffer(gateway: Besieged, case: Case, bodies: Path, times: int) -> Cost:
    """Carry out one case so many times, one after the other."""
    send, answers, took = sender(gateway, case, bodies), dict[str, int](), []
    before = read(gateway.pid).resident
    gateway.forget_peak()
    with probed(gateway, PROBE_MS) as lag:
        for _ in range(times):
            began = time.monotonic()
            answer = send()
            took.append((time.monotonic() - began) * 1000)
            answers[answer] = answers.get(answer, 0) + 1
            time.sleep(0.05)            # a probe between two
    size = (bodies / f"{case.side}-{case.body}.{case.encoding}").stat().st_size
    return Cost(case, size, sorted(took)[len(took) // 2], (read(gateway.pid).peak - before) / MIB, lag, answers)


def quiet(gateway: Besieged, seconds: float) -> Lag:
    """The lag of a loop that has nothing to do: what the probe itself costs."""
    with probed(gateway, PROBE_MS) as lag:
        time.sleep(seconds)
    return lag


def markdown(peace: Lag, costs: list[Cost]) -> str:
    """The table."""
    lines = ["| side | body | encoding | sent, KiB | answer, ms | memory, MiB | lag p50 / p99 / most, ms | over 50 ms |",
             "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
             f"| nothing | | | | | | {times_of(peace)} | {len(peace.stalls)} of {peace.probes} |"]
    for cost in costs:
        case = cost.case
        lines.append(f"| {case.side} | {case.body} | {case.encoding} | {cost.sent / 1024:.0f} | {cost.took:.0f} | "
                     f"+{cost.memory:.0f} | {times_of(cost.lag)} | {len(cost.lag.stalls)} of {cost.lag.probes} |")
    lines += [f"NOT as expected, {cost.case.status}: {cost.case}: {cost.answers}" for cost in costs if not cost.good]
    return "\n".join(lines)


def times_of(lag: Lag) -> str:
    """In milliseconds."""
    return f"{lag.p50 / 1000:.1f} / {lag.p99 / 1000:.1f} / {lag.most / 1000:.0f}"


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Decompression bombs of each kind, both ways.")
    parser.add_argument("--times", type=int, default=20, help="each case is carried out")
    parser.add_argument("--quick", action="store_true", help="each bomb once: it shows that they are all refused")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mitmgate-bombs-") as name:
        folder = Path(name)
        bodies = written(folder / "encoded", ("bomb",) if options.quick else ("bomb", "largest"))
        with upstream(folder, bodies) as source, besieged(folder, source) as gateway:
            times = 1 if options.quick else options.times
            suffer(gateway, CASES[0], bodies, 1)        # opens what is opened once
            peace = quiet(gateway, 0.2 if options.quick else 3.0)
            costs = []
            for case in CASES:
                if options.quick and case.body != "bomb":
                    continue
                tell(f"{case.side}: {case.body}, {case.encoding}")
                costs.append(suffer(gateway, case, bodies, times))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine().strip(), "peace": asdict(peace),
                                            "costs": [asdict(cost) for cost in costs]}, indent=1) + "\n")
    print(machine(), markdown(peace, costs), sep="\n")
    return 0 if all(cost.good for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
