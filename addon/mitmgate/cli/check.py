"""`mitmgate check DIR`: whether rules are valid, and every place where they are not."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from mitmgate.providers.vendors import DIALECT_AUTHORISATION, VENDORS
from mitmgate.rules.editors import json_schema
from mitmgate.rules.loader import load
from mitmgate.rules.positions import RulesError

VALID: Final = 0
INVALID: Final = 1
WRONG_USAGE: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="the folder of rules")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of the rules and stop")


def main(args: argparse.Namespace) -> int:
    """The exit code: 0 valid, 1 not valid, 2 wrong usage."""
    if args.schema:
        _print_json(json_schema())
        return VALID
    folder: Path | None = args.folder
    if folder is None or not folder.is_dir():
        wrong = "name the folder of rules" if folder is None else f"{folder} is not a folder"
        print(f"check: {wrong}", file=sys.stderr)
        return WRONG_USAGE
    try:
        rules = load(folder, known_vendors=VENDORS, known_dialects=DIALECT_AUTHORISATION)
    except RulesError as error:
        if args.json:
            _print_json({"valid": False, "problems": [asdict(problem) for problem in error.problems]})
        else:
            for problem in error.problems:
                print(problem, file=sys.stderr)
        return INVALID
    if args.json:
        _print_json({"valid": True, "problems": [], "providers": len(rules.providers), "routes": len(rules.routes)})
    else:
        print(f"rules are valid: {len(rules.providers)} providers, {len(rules.routes)} routes")
    return VALID


def _print_json(document: object) -> None:
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
