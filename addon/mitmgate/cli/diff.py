"""`mitmgate check --diff OLD NEW`: what differs between two folders of rules, and which requests they serve otherwise."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from mitmgate.cli.answers import print_json
from mitmgate.cli.warnings import unserved
from mitmgate.comparison import Change, Difference, Outcome, Served, compare, served
from mitmgate.providers.vendors import DIALECT_AUTHORISATION, VENDORS
from mitmgate.rehearsal import RequestError, rules_alone
from mitmgate.rules.loader import load
from mitmgate.rules.positions import Problem, RulesError, shown
from mitmgate.runtime import Snapshot

SAME: Final = 0
DIFFERS: Final = 1
WRONG_USAGE: Final = 2

_LARGEST: Final = 256 << 20                 # bytes of a file of requests
_MEANT: Final = "a request is a body, or {method, url, headers, body, client, proxy_user}"


def main(old: Path, new: Path, *, requests: Path | None, as_json: bool) -> int:
    """The exit code: 0 the rules say the same, 1 they do not or one of them is invalid, 2 wrong usage."""
    try:
        asked = _requests(requests) if requests is not None else None
    except RequestError as error:
        print(f"mitmgate check: {error}", file=sys.stderr)
        return WRONG_USAGE
    problems: dict[str, Sequence[Problem]] = {}
    snapshots = [_snapshot(folder, side, problems) for side, folder in (("old", old), ("new", new))]
    before, after = snapshots
    if before is None or after is None:
        _invalid(problems, {"old": old, "new": new}, as_json)
        return DIFFERS
    changes = compare(before, after)
    try:
        compared = None if asked is None else list(_compared(asked, before, after))
    except RequestError as error:
        print(f"mitmgate check: {requests}: {error}: {_MEANT}", file=sys.stderr)
        return WRONG_USAGE
    if as_json:
        print_json(_document({}, changes, compared))
    else:
        print("\n".join((*_rules(changes), *(_calls(compared) if compared is not None else ()))))
    return DIFFERS if changes or not all(each.alike for _, each in compared or ()) else SAME


def _snapshot(folder: Path, side: str, problems: dict[str, Sequence[Problem]]) -> Snapshot | None:
    try:
        return rules_alone(folder, os.environ)
    except RulesError as error:
        problems[side] = error.problems
    except ValueError:                      # said without its place: looked for again
        rules = load(folder, known_vendors=VENDORS, known_dialects=DIALECT_AUTHORISATION)
        problems[side] = unserved(rules, folder)
        if not problems[side]:
            raise
    return None


def _invalid(problems: Mapping[str, Sequence[Problem]], folders: Mapping[str, Path], as_json: bool) -> None:
    if as_json:
        print_json(_document(problems, (), None))
        return
    for side, found in problems.items():
        for problem in found:
            print(f"{folders[side]}/{problem}", file=sys.stderr)


def _requests(file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Each with what it is called: a JSON array, or one a line. Raises RequestError."""
    try:
        if str(file) == "-":
            content = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with file.open("rb") as opened:
                content = opened.read(_LARGEST + 1)
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise RequestError(f"{file} is larger than {_LARGEST >> 20} MiB")
    if content.lstrip().startswith(b"["):
        found = [(f"request {number}", each) for number, each in enumerate(_json(content, str(file)), 1)]
    else:
        lines = enumerate(content.splitlines(), 1)
        found = [(f"line {number}", _json(line, f"{file}:{number}")) for number, line in lines if line.strip()]
    for name, each in found:
        if not isinstance(each, dict):
            raise RequestError(f"{file}: {name} is no request: {_MEANT}")
    if not found:
        raise RequestError(f"{file} holds no request: write a JSON array of requests, or one a line")
    return found


def _json(content: bytes, place: str) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"{place} is not JSON: {error.msg}; write a JSON array of requests, or one a line") from None


def _compared(
    asked: Sequence[tuple[str, Mapping[str, Any]]], before: Snapshot, after: Snapshot
) -> Iterator[tuple[str, Served]]:
    for name, request in asked:
        try:
            yield name, served(request, before, after)
        except RequestError as error:
            raise RequestError(f"{name}: {error}") from None


def _rules(changes: Sequence[Change]) -> Iterator[str]:
    for change in changes:
        yield f"{change.what} {shown(change.name)} {change.kind}{_where(change)}"
        yield from (f"    {_difference(each)}" for each in change.differences)
    if not changes:
        yield "the rules say the same"


def _calls(compared: Sequence[tuple[str, Served]]) -> Iterator[str]:
    otherwise = [(name, each) for name, each in compared if not each.alike]
    for name, each in otherwise:
        yield f"{name} would be served otherwise"
        yield from (f"    {line}" for line in _outcomes(each.old, each.new))
    yield f"{len(otherwise)} of {len(compared)} {'request' if len(compared) == 1 else 'requests'} would be served otherwise"
    # Requests that are no requests of any API would be compared for ever without a word.
    if refused := [(name, each.old.refusal) for name, each in compared if each.alike and each.old.refusal]:
        name, refusal = refused[0]
        yield f"{len(refused)} refused by both, {name} with {refusal}"


def _where(change: Change) -> str:
    there = [each for each in (change.old, change.new) if each is not None]
    return f" ({' → '.join(there)})" if there else ""


def _difference(each: Difference) -> str:
    path = f"{each.path}: " if each.path else ""
    if each.kind == "moved":
        return f"{path}was {each.old}, is {each.new}"
    if each.hidden:
        return f"{path}{each.kind}, not shown"
    if each.item:
        return f"{path}{each.kind} {each.new or each.old}"
    return f"{path}{each.old or 'not given'} → {each.new or 'not given'}"


def _outcomes(old: Outcome, new: Outcome) -> Iterator[str]:
    for key in ("route", "refusal", "untouched"):
        if (was := getattr(old, key)) != (now := getattr(new, key)):
            yield f"{key}: {was or 'none'} → {now or 'none'}"
    if old.targets != new.targets:
        yield f"targets: {', '.join(old.targets) or 'none'} → {', '.join(new.targets) or 'none'}"
    for name in dict.fromkeys((*old.parameters, *new.parameters)):
        was, now = (_value(each.parameters, name) for each in (old, new))
        if was != now:
            yield f"{shown(name)}: {was} → {now}"


def _value(parameters: Mapping[str, Any], name: str) -> str:
    return shown(orjson.dumps(parameters[name]).decode()) if name in parameters else "as it came"


def _document(
    problems: Mapping[str, Sequence[Problem]], changes: Sequence[Change], compared: Sequence[tuple[str, Served]] | None
) -> dict[str, object]:
    """The same keys always. `requests`: null unless requests were given."""
    alike = all(each.alike for _, each in compared or ())
    return {
        "valid": not problems,
        "same": not problems and not changes and alike,
        "problems": {side: [asdict(each) for each in problems.get(side, ())] for side in ("old", "new")},
        "changes": [asdict(change) for change in changes],
        "requests": _requests_document(compared) if compared is not None else None,
    }


def _requests_document(compared: Sequence[tuple[str, Served]]) -> dict[str, object]:
    return {
        "compared": len(compared),
        "refused_by_both": sum(each.alike and each.old.refusal is not None for _, each in compared),
        "otherwise": [
            {"request": name, "old": asdict(each.old), "new": asdict(each.new)} for name, each in compared if not each.alike
        ],
    }
