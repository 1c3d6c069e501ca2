"""What `explain` costs on a folder of 200 files with 2,000 routes: its own step, and the whole command.

    .venv/bin/python bench/explaining.py

The step is a rehearsal, the look at every route one by one, and the text. The target is 100 ms. The command also starts
Python and loads the folder, which is timed beside it.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mitmgate.cli.explain import told
from mitmgate.explanation import explain
from mitmgate.rehearsal import rehearse_now, rules_alone

FILES, ROUTES = 200, 10
STEPS, COMMANDS = 30, 5
# The last route is the first that fits; every tenth asks for a condition.
REQUEST = {
    "url": "https://api.openai.com/v1/chat/completions",
    "headers": {"x-team": "199"},
    "body": {"model": f"gpt-4o-mini-{ROUTES - 1}", "messages": [{"role": "user", "content": "hello " * 20}] * 10},
}


def write(folder: Path) -> None:
    (folder / "00-main.yaml").write_text("version: 1\nintercept: [api.openai.com]\nproviders: {openai: {}, groq: {}}\n")
    for file in range(FILES):
        routes = [
            {
                "name": f"t{file}-{number}",
                "match": {
                    "operation": "chat", "model": [f"gpt-4o-mini-{number}", f"t{file}/*"], "header": {"x-team": str(file)},
                    **({"when": "size(request.messages) > 1"} if number % 10 == 0 else {}),
                },
                "targets": [{"provider": "groq", "model": "llama-3.3-70b-versatile"}],
                "fallback": [{"provider": "openai"}],
            }
            for number in range(ROUTES)
        ]
        (folder / f"team-{file:03}.yaml").write_text(json.dumps({"routes": routes}))


def milliseconds(samples: list[float]) -> str:
    return f"{1000 * statistics.median(samples):7.1f} ms (worst of {len(samples)}: {1000 * max(samples):.1f})"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        began = time.perf_counter()
        snapshot = rules_alone(folder, {})
        loading = time.perf_counter() - began
        steps, commands = [], []
        for _ in range(STEPS):
            began = time.perf_counter()
            rehearsed = rehearse_now(REQUEST, snapshot)
            explanation = explain(rehearsed.exchange, snapshot, rehearsed.refusal, rehearsed.untouched)
            "\n".join(told(explanation))
            steps.append(time.perf_counter() - began)
        assert len(explanation.tried) == FILES * ROUTES
        assert explanation.route == f"t{FILES - 1}-{ROUTES - 1}"
        request = folder / "request.json"
        request.write_text(json.dumps(REQUEST))
        for _ in range(COMMANDS):
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "mitmgate", "explain", str(folder), str(request)], check=True, stdout=subprocess.DEVNULL
            )
            commands.append(time.perf_counter() - began)
        print(f"explain, {FILES} files with {FILES * ROUTES:,} routes, the last of which fits")
        print(f"  the step      {milliseconds(steps)}")
        print(f"  loading       {1000 * loading:7.1f} ms")
        print(f"  the command   {milliseconds(commands)}")


if __name__ == "__main__":
    main()
