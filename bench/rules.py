"""What rules cost before a request comes: loading 200 files with 2,000 routes, beside plain YAML loaders.

    .venv/bin/python bench/rules.py

The loaders take turns in the same run; CPU seconds are of the thread, the least of all turns. Plain loaders give maps
and lists without places, checks or meaning: they are the floor under what reading the same text can cost.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from ruamel.yaml import YAML

from mitmgate.providers.vendors import VENDORS
from mitmgate.rules.loader import load

FILES = 200
ROUTES = 2_000
TURNS = 5
MAIN = """\
version: 1
providers:
  openai: {}
  groq: {}
  claude: {dialect: anthropic, base_url: https://api.anthropic.com, credential: {env: ANTHROPIC_API_KEY}}
projects:
"""
SHORT = "  - {name: r%d, match: {model: team-%d/m}, targets: [{provider: openai, model: gpt-4o-mini}]}\n"
FULL = """\
  - name: r%d
    match:
      host: api.openai.com
      operation: chat
      model: ["gpt-4o-mini*", team-%d/m]
      header: {x-env: staging}
    targets:
      - {provider: groq, model: llama-3.3-70b-versatile, weight: 3}
      - {provider: openai, model: gpt-4o-mini, weight: 1, priority: 1}
    fallback: [{provider: claude, model: claude-haiku-4-5}]
    retry: {max: 2, on: [connect, timeout, 429, 5xx]}
    timeout: {connect: 5s, first_token: 30s}
"""


def write(folder: Path, route: str, teams: bool) -> None:
    """Main rules and so many files of routes, of everybody or of a team each."""
    projects = "".join(f"  p{number}: {{identify: {{header: {{x-app: p{number}}}}}}}\n" for number in range(FILES))
    (folder / "main.yaml").write_text(MAIN + projects)
    (folder / "teams").mkdir()
    for file in range(FILES):
        text = "routes:\n" + "".join(route % (file * ROUTES + number, number) for number in range(ROUTES // FILES))
        if teams:
            (folder / "teams" / f"team-{file}.yaml").write_text(f"scope: {{project: p{file}}}\n{text}")
        else:
            (folder / f"routes-{file}.yaml").write_text(text)


def loaders(folder: Path) -> Mapping[str, Callable[[], object]]:
    """Name → loads all files of `folder` once."""
    texts = [path.read_text() for path in sorted(folder.rglob("*.yaml"))]
    return {
        "mitmgate": lambda: load(folder, {}, VENDORS),
        "PyYAML, C": lambda: [yaml.load(text, Loader=yaml.CSafeLoader) for text in texts],
        "ruamel.yaml, pure": lambda: [YAML(typ="safe", pure=True).load(text) for text in texts],
    }


def loading(turns: int) -> None:
    """The table of loading."""
    print(f"| {FILES} files, {ROUTES:,} routes | KiB | mitmgate, s | PyYAML's C loader, s | ruamel.yaml, s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, route, teams in (("short", SHORT, False), ("full", FULL, False), ("full, a team each", FULL, True)):
        with tempfile.TemporaryDirectory() as there:
            folder = Path(there)
            write(folder, route, teams)
            least: dict[str, float] = {}
            for turn in range(turns):
                for loader, once in loaders(folder).items():
                    if "pure" in loader and turn:
                        continue            # ten times as long as the others
                    begun = time.thread_time()
                    once()
                    least[loader] = min(least.get(loader, 1e9), time.thread_time() - begun)
            size = sum(path.stat().st_size for path in folder.rglob("*.yaml")) >> 10
        print(f"| {name} | {size} | " + " | ".join(f"{took:.2f}" for took in least.values()) + " |", flush=True)


PARTS: Mapping[str, Callable[[int], None]] = {"loading": loading}


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--part", action="append", choices=sorted(PARTS), help="only this one; may be repeated")
    options.add_argument("--turns", type=int, default=TURNS)
    given = options.parse_args()
    for part in given.part or PARTS:
        PARTS[part](given.turns)


if __name__ == "__main__":
    main()
