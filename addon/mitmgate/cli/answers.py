"""What commands answer with: JSON for programs, lines for people."""

import sys
from dataclasses import asdict

import orjson

from mitmgate.rules.positions import RulesError


def print_json(document: object) -> None:
    """Print it as JSON."""
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def tell_invalid(error: RulesError, *, as_json: bool) -> None:
    """Print every place where the rules are wrong: to stderr, or as a document like the command's others."""
    if as_json:
        print_json({"valid": False, "problems": [asdict(problem) for problem in error.problems]})
    else:
        print("\n".join(map(str, error.problems)), file=sys.stderr)
