"""`mitmgate explain DIR request.json`: why a request goes where it goes, without asking anybody."""

import argparse
import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jiter
import orjson

from mitmgate.cli.answers import print_json, tell_invalid
from mitmgate.cli.folders import wrong_folder
from mitmgate.explanation import Explanation, Tried, Verdict, effective, explain
from mitmgate.rehearsal import RequestError, rehearse_now, rules_alone
from mitmgate.routing.match import UNKNOWN
from mitmgate.rules.positions import RulesError, shown
from mitmgate.rules.schema import ClientMay
from mitmgate.runtime import Snapshot

EXPLAINED: Final = 0
INVALID: Final = 1
WRONG_USAGE: Final = 2

_WRITE: Final = (
    'write a body such as {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}, '
    'or {"url": "/v1/chat/completions", "headers": {"x-app": "support"}, "body": {…}, "client": "10.1.2.3"}'
)
_LARGEST: Final = 64 << 20                  # bytes of a request's file
_MOST_TRIED: Final = 30                     # routes that are listed for people; --json has them all
_FIRST_KEYS: Final = frozenset({"scope", "operation", "model", "host"})   # a route that fails at these is far away
_LONGEST: Final = 100                       # characters of what the rules want


class _Usage(Exception):
    """Used wrongly; the message says what to write instead."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder of rules")
    parser.add_argument(
        "request", nargs="?", metavar="REQUEST.json",
        help="a body, or {method, url, headers, body, client, proxy_user}; - reads it from stdin",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument("--effective", metavar="project/NAME", help="all that holds for a project, whatever it calls")


def main(args: argparse.Namespace) -> int:
    """The exit code: 0 explained (a refusal, too), 1 the rules are not valid, 2 wrong usage."""
    try:
        if wrong := wrong_folder(args.folder):
            raise _Usage(wrong)
        if (args.request is None) == (args.effective is None):
            raise _Usage("name a request, mitmgate explain DIR REQUEST.json, or --effective project/NAME")
        request = _read(args.request) if args.request is not None else {}
        snapshot = rules_alone(args.folder)
        document, lines = _effective(args.effective, snapshot) if args.effective else _explained(request, snapshot)
    except _Usage as usage:
        print(f"mitmgate explain: {usage}", file=sys.stderr)
        return WRONG_USAGE
    except RulesError as error:
        tell_invalid(error, as_json=args.json)
        return INVALID
    except ValueError as error:
        print(error, file=sys.stderr)
        return INVALID
    if args.json:
        print_json(snapshot.taken.hide(document))
    else:
        print(snapshot.taken.hide("\n".join(lines)))
    return EXPLAINED


def _read(name: str) -> Mapping[str, Any]:
    """The request of a file."""
    called = "what stands on stdin" if name == "-" else name
    try:
        if name == "-":
            content = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(_LARGEST + 1)
    except OSError as error:
        raise _Usage(f"{name} cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise _Usage(f"{called} is larger than {_LARGEST >> 20} MiB")
    try:
        request = jiter.from_json(content, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise _Usage(f"{called} is not JSON: {shown(str(error))}; {_WRITE}") from None
    if not isinstance(request, dict):
        raise _Usage(f"{called} is no JSON object; {_WRITE}")
    return request


def _explained(request: Mapping[str, Any], snapshot: Snapshot) -> tuple[object, Sequence[str]]:
    try:
        rehearsed = rehearse_now(request, snapshot)
    except RequestError as error:
        raise _Usage(f"the request is none: {error}; {_WRITE}") from None
    explanation = explain(rehearsed.exchange, snapshot, rehearsed.refusal, rehearsed.untouched)
    return explanation.document(), list(told(explanation))


def _effective(name: str, snapshot: Snapshot) -> tuple[object, Sequence[str]]:
    kind, _, project = name.partition("/")
    if kind != "project" or not project:
        raise _Usage("--effective takes project/NAME")
    known = [*snapshot.rules.projects, UNKNOWN]
    if project not in known:
        near = difflib.get_close_matches(project, known, n=1, cutoff=0.6)
        hint = f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(known)}"
        raise _Usage(f"no project `{shown(project)}` stands under `projects`{hint}")
    document = effective(project, snapshot)
    return document, list(_told_project(document))


# An explanation as lines: a word at the left margin says what a paragraph is about.


def told(explanation: Explanation) -> Iterator[str]:
    """An explanation as people read it."""
    yield from _told_request(explanation)
    if explanation.untouched is not None:
        yield _line("passes", explanation.untouched)
        return
    yield from _told_routes(explanation)
    if explanation.plan:
        yield from _told_plan(explanation)
    yield from _told_policies("policies", explanation.policies)
    if explanation.plan:
        yield from _told_trying(explanation)
    if explanation.answered:
        yield _line("answer", "the gateway's own, from its rules; nobody is asked")
    if refusal := explanation.refusal:
        by = f", by {_at(refusal['by'], refusal['where'])}" if refusal["by"] else ""
        yield _line("refused", f"{refusal['status']} {refusal['code']}{by}: {refusal['message']}")


def _line(word: str, text: str) -> str:
    return f"{word:<10}{text}"


def _at(what: str, where: str | None) -> str:
    return f"{what} ({where})" if where else what


def _told_request(explanation: Explanation) -> Iterator[str]:
    request = explanation.request
    yield _line("request", f"{shown(request['method'])} {request['path']} {request['way']}, to {request['host']}")
    facts = {name: request[name] for name in ("operation", "model", "client", "project", "tenant", "task") if request[name]}
    facts |= {f"tag.{name}": value for name, value in request["tags"].items()}
    if request["stream"]:
        facts["stream"] = "yes"
    yield _line("", ", ".join(f"{name} {shown(str(value))}" for name, value in facts.items()))
    if alias := explanation.alias:
        yield _line("alias", _at(f"{alias['pattern']} → {alias['model']}", alias["where"]))


def _told_routes(explanation: Explanation) -> Iterator[str]:
    listed, left_out = _nearest(explanation.tried)
    wheres = max((len(each.where or "") for each in listed), default=0)
    names = max((len(each.route) for each in listed), default=0)
    for number, each in enumerate(listed):
        line = f"{each.where or '':<{wheres}}  {each.route:<{names}}  {_tried(each)}"
        yield _line("routes" if not number else "", line.rstrip())
    if left_out:
        yield _line("", f"and {left_out:,} more that do not match; --json has them")
    if explanation.by is not None and explanation.by != "route":
        kinds = {
            "models": "the name stands under `models:`",
            "provider": "the model's provider",
            "auto": "`model: auto`: all models in turn",
            "original": "where the client meant to go, with its own key",
        }
        yield _line("served by", f"{_at(str(explanation.route), explanation.where)}: {kinds[explanation.by]}")


def _nearest(tried: Sequence[Tried]) -> tuple[Sequence[Tried], int]:
    """As many as people read, in their order: those that come nearest first of all, then the last before the match."""
    if len(tried) <= _MOST_TRIED:
        return tried, 0
    ranked = sorted(range(len(tried)), key=lambda at: (tried[at].key is not None, tried[at].key in _FIRST_KEYS, -at))
    listed = sorted(ranked[:_MOST_TRIED])
    return [tried[at] for at in listed], len(tried) - _MOST_TRIED


def _tried(tried: Tried) -> str:
    if tried.key is None:
        return "matches"
    if tried.key == "when":
        return f"no: when: {_cut(tried.wanted)}: {tried.found}"
    found = tried.found
    value = "none" if found is None else found if found == tried.wanted else f"`{found}`"      # equal: both are not shown
    return f"no: {tried.key}: wants {_cut(tried.wanted)}; the request has {value}"


def _cut(text: str | None) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _told_plan(explanation: Explanation) -> Iterator[str]:
    strategy = explanation.strategy or "fallback"
    sticky = f", sticky by {explanation.sticky}" if explanation.sticky else ""
    yield _line("plan", f"{strategy}{sticky}")
    plan = explanation.plan
    names = max(len(each.target) for each in plan)
    places = [f"{each.zone}{f' {each.region}' if each.region else ''}" for each in plan]
    widest = max(map(len, places))
    for number, (each, place) in enumerate(zip(plan, places, strict=True), 1):
        kept = each.verdict == "kept"
        weight = f"  weight {each.weight:g}" if strategy == "weighted" else ""
        verdict = "" if kept else f"  dropped: {each.verdict}"
        yield f"  {number if kept else '-':>2}  {each.target:<{names}}  {place:<{widest}}{weight}{verdict}".rstrip()
        yield from (f"      {line}" for line in _of_target(each))


def _of_target(verdict: Verdict) -> Iterator[str]:
    for each in verdict.guardrails:
        action = f" → {each.action}" if each.action else ""
        yield f"guardrail {each.guardrail}{action}, by {_at(each.by, each.where)}"
    if verdict.parameters:
        yield f"sets {_parameters(verdict.parameters)}"


def _told_policies(word: str, policies: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for number, policy in enumerate(policies):
        parts = []
        if policy["for"]:
            parts.append("for " + ", ".join(f"{name} {value}" for name, value in policy["for"].items()))
        parts += [f"allows {name} {value}" for name, value in policy["allow"].items()]
        if policy["guardrails"]:
            parts.append(f"guardrails {', '.join(policy['guardrails'])}")
        if policy["refuse"]:
            parts.append("refuses")
        when = ", ".join(f"{name} {_cut(value)}" for name, value in policy.get("when", {}).items())
        condition = f"; when {when}" if when else ""
        yield _line(word if not number else "", f"{_at(policy['name'], policy['where'])}: {'; '.join(parts)}{condition}")


def _told_trying(explanation: Explanation) -> Iterator[str]:
    parameters = [
        f"{word}: {_parameters(given)}" for word, given in explanation.parameters.items() if given
    ]
    if parameters:
        yield _line("sets", "; ".join(parameters))
    retry, timeout = explanation.retry, explanation.timeout
    more = f"{retry['max']} more {'try' if retry['max'] == 1 else 'tries'} per target" if retry["max"] else "one try per target"
    backoff = retry["backoff"]
    paused = f" on {', '.join(retry['on'])}; pauses {backoff['base']:g} to {backoff['max']:g} s" if retry["max"] else ""
    yield _line("retry", f"{more}{paused}")
    yield _line("timeout", ", ".join(f"{name} {value:g} s" for name, value in timeout.items() if value is not None))


def _parameters(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_cut(orjson.dumps(value).decode())}" for name, value in given.items())


_MAY_DEFAULTS: Final = ClientMay().model_dump()


def _told_project(document: Mapping[str, Any]) -> Iterator[str]:
    yield _line("project", _at(document["project"], document["where"]))
    facts = {name: document[name] for name in ("id", "tenant", "kind", "tier") if document[name]}
    if facts:
        yield _line("", ", ".join(f"{name} {value}" for name, value in facts.items()))
    yield from _told_policies("policies", document["policies"])
    yield from _told_policies("at times", document["policies_for_some_calls"])
    for number, route in enumerate(document["routes"]):
        when = ", ".join(f"{name} {_cut(value)}" for name, value in route["when"].items())
        yield _line("routes" if not number else "", _at(route["route"], route["where"]) + (f": {when}" if when else ""))
    if document["models"]:
        yield _line("models", ", ".join(document["models"]))
    if written := {name: value for name, value in document["client_may"].items() if value != _MAY_DEFAULTS[name]}:
        yield _line("may ask", ", ".join(f"{name} {orjson.dumps(value).decode()}" for name, value in written.items()))
    names = max((len(each["target"]) for each in document["targets"]), default=0)
    for number, each in enumerate(document["targets"]):
        place = f"{each['zone']}{f' {each['region']}' if each['region'] else ''}"
        only = f", for models {' and '.join(each['models'])}" if each["models"] else ""
        verdict = f"may be asked{only}" if each["verdict"] == "kept" else f"never asked: {each['verdict']}"
        yield _line("targets" if not number else "", f"{each['target']:<{names}}  {place}  {verdict}")
