"""`mitmgate check DIR`: whether rules are valid, every place where they are not, and what is likely to be a mistake.

`--diff OLD NEW` compares two folders instead: `cli.diff`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from mitmgate.cli import diff
from mitmgate.cli.answers import print_json
from mitmgate.cli.folders import wrong_folder
from mitmgate.cli.warnings import marked, unserved, warnings
from mitmgate.providers.vendors import DIALECT_AUTHORISATION, VENDORS
from mitmgate.rules.editors import json_schema
from mitmgate.rules.loader import load
from mitmgate.rules.positions import Problem, RulesError
from mitmgate.rules.schema import Rules, Team

VALID: Final = 0
INVALID: Final = 1
WRONG_USAGE: Final = 2
_THINGS: Final = {
    "providers": "provider", "routes": "route", "models": "model", "policies": "policy", "projects": "project",
    "teams": "team", "files": "file",
}  # fmt: skip
"""What is counted, and what one of it is called."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="the folder of rules")
    parser.add_argument("--strict", action="store_true", help="count warnings as errors")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of the rules and stop")
    parser.add_argument(
        "--diff", nargs=2, type=Path, metavar=("OLD", "NEW"),
        help="tell what differs between two folders of rules: 0 nothing, 1 something, 2 wrong usage",
    )
    parser.add_argument(
        "--requests", type=Path, metavar="FILE",
        help="with --diff: requests, as a JSON array or one a line; tell which would be served otherwise (`-`: stdin)",
    )


def main(args: argparse.Namespace) -> int:
    """The exit code: 0 valid, 1 not valid, 2 wrong usage."""
    if args.schema:
        print_json(json_schema())
        return VALID
    if wrong := _misused(args):
        print(f"mitmgate check: {wrong}", file=sys.stderr)
        return WRONG_USAGE
    if args.diff is not None:
        return diff.main(*args.diff, requests=args.requests, as_json=args.json)
    folder: Path = args.folder
    rules, problems = _loaded(folder)
    warned = warnings(rules, folder, os.environ) if rules is not None and not problems else ()
    if args.strict:
        problems, warned = (*problems, *warned), ()
    if args.json:
        print_json(_answer(rules, problems, warned))
    else:
        _tell(rules, problems, warned)
    return INVALID if problems else VALID


def _misused(args: argparse.Namespace) -> str | None:
    if args.diff is None:
        if args.requests is not None:
            return "--requests goes with --diff OLD NEW"
        if args.folder is None:
            return "name the folder of rules: mitmgate check DIR"
        return wrong_folder(args.folder)
    if args.folder is not None or args.strict:
        return "--diff compares two folders and takes neither DIR nor --strict: mitmgate check --diff OLD NEW"
    return next((wrong for folder in args.diff if (wrong := wrong_folder(folder))), None)


def _loaded(folder: Path) -> tuple[Rules | None, tuple[Problem, ...]]:
    """The rules as far as they load, and what is wrong with them."""
    try:
        rules = load(folder, known_vendors=VENDORS, known_dialects=DIALECT_AUTHORISATION)
    except RulesError as error:
        return None, error.problems
    return rules, unserved(rules, folder)


def _tell(rules: Rules | None, problems: Sequence[Problem], warned: Sequence[Problem]) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)
    for warning in warned:
        print(marked(warning), file=sys.stderr)
    if rules is not None and not problems:
        counted = [_counted(number, thing) for thing, number in _counts(rules).items()]
        if warned:
            counted.append(_counted(len(warned), "warnings"))
        print(f"rules are valid: {', '.join(counted)}")


def _answer(rules: Rules | None, problems: Sequence[Problem], warned: Sequence[Problem]) -> dict[str, object]:
    """The same keys always; what was not loaded is not counted."""
    return {
        "valid": not problems,
        "problems": [asdict(problem) for problem in problems],
        "warnings": [asdict(warning) for warning in warned],
        "counts": {
            "problems": len(problems),
            "warnings": len(warned),
            **_counts(rules),
        },
    }


def _counts(rules: Rules | None) -> dict[str, int | None]:
    """What was loaded, teams' routes and models too; None each where nothing was."""
    if rules is None:
        return dict.fromkeys(_THINGS)
    owners: tuple[Rules | Team, ...] = (rules, *rules.teams.values())
    return {
        "providers": len(rules.providers),
        "routes": sum(len(each.routes) for each in owners),
        "models": sum(len(each.models) for each in owners),
        "policies": len(rules.policies),
        "projects": len(rules.projects),
        "teams": len(rules.teams),
        "files": len({where.rpartition(":")[0] for where in rules.where.values()}),
    }


def _counted(number: int | None, things: str) -> str:
    return f"{number} {_THINGS.get(things, things.removesuffix('s')) if number == 1 else things}"
