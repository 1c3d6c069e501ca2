"""A process beside the one that measures, so that what it does costs the other nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

HERE: Final = Path(__file__).resolve().parent


class Side:
    """A process that stands by: it says `ready`, acts, and says what came of it in one line of JSON."""

    def __init__(self, script: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen([sys.executable, str(HERE / script), *arguments], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env={**os.environ, **(environment or {})})
        self.line()

    def tell(self) -> Self:
        """The line for which it waits."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self

    def answer(self) -> Any:
        """What came of it; the process ends."""
        answer = json.loads(self.line())
        self.stop()
        return answer

    def stop(self) -> None:
        """End it."""
        stop(self.process)

    def line(self) -> str:
        """The next line it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            raise SystemExit(f"{self.process.args!r} ended early, with exit code {self.process.returncode}")
        return line


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process: politely, and after five seconds for good."""
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
