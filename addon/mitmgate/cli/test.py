"""`mitmgate test DIR`: the tests that stand beside the rules, in `DIR/tests/*.yaml`."""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from mitmgate.cli.answers import print_json, tell_invalid
from mitmgate.cli.folders import wrong_folder
from mitmgate.rules.positions import RulesError
from mitmgate.rules.trials import FOLDER, load_trials
from mitmgate.trials import Outcome, Report, run_trials

PASSED: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2

_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,2})?)%", re.ASCII)
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")    # XML 1.0, section 2.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder of rules; its tests are DIR/tests/*.yaml")
    parser.add_argument("-k", dest="text", metavar="TEXT", help="only tests whose names hold this text, in any case")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report, as CI systems read it")
    parser.add_argument("--coverage", action="store_true", help="tell what of the rules no test reaches")
    parser.add_argument(
        "--coverage-min", type=_share, metavar="PERCENT", help="fail when tests reach less than this of the rules, as in 80%%"
    )


def main(args: argparse.Namespace) -> int:
    """The exit code: 0 all pass, 1 some do not or the rules are not valid, 2 wrong usage."""
    folder: Path = args.folder
    if wrong := wrong_folder(folder):
        print(f"mitmgate test: {wrong}", file=sys.stderr)
        return WRONG_USAGE
    text = (args.text or "").casefold()
    try:
        files = load_trials(folder)
        if not files:
            print(f"mitmgate test: no tests; write them into {folder / FOLDER}/*.yaml", file=sys.stderr)
            return FAILED
        report = run_trials(folder, files, os.environ, lambda name: text in name.casefold())
    except RulesError as error:
        tell_invalid(error, as_json=args.json)
        return FAILED
    except ValueError as error:
        print(error, file=sys.stderr)
        return FAILED
    if not report.outcomes:
        print(f"mitmgate test: no test's name holds {args.text}", file=sys.stderr)
        return FAILED
    if args.junit is not None:
        try:
            args.junit.write_bytes(junit(report))
        except OSError as error:
            print(f"mitmgate test: {args.junit} cannot be written: {error.strerror}", file=sys.stderr)
            return WRONG_USAGE
    least: float | None = args.coverage_min
    reported = args.coverage or least is not None
    if args.json:
        print_json(_document(report, reported))
    else:
        print("\n".join(_told(report, reported, least)))
    return FAILED if report.failed or (least is not None and report.coverage < least) else PASSED


def _share(text: str) -> float:
    """`80%` as a fraction, for argparse."""
    found = _SHARE.fullmatch(text)
    if found is None or float(found[1]) > 100:
        raise argparse.ArgumentTypeError("a percentage such as 80%")
    return float(found[1]) / 100


def _told(report: Report, reported: bool, least: float | None) -> Iterator[str]:
    for outcome in report.failed:
        yield f"{outcome.where}: {outcome.name}: {_why(outcome)}"
    failed, number = len(report.failed), len(report.outcomes)
    count = f"{number} test{'' if number == 1 else 's'}"
    yield f"{count}: {number - failed} passed, {failed} failed" if failed else f"{count} passed"
    if not reported:
        return
    reached = len(report.parts) - len(report.unreached)
    asked = f", {100 * least:g}% asked for" if least is not None else ""
    yield f"coverage: {reached} of {len(report.parts)} reached, {100 * report.coverage:.0f}%{asked}"
    for part in report.unreached:
        yield f"{part.where or 'rules'}: {part.kind} {part.name}: no test reaches it"


def _why(outcome: Outcome) -> str:
    if outcome.error is not None:
        return outcome.error
    told = [f"{each.what}: expected {each.expected}, found {each.found}" for each in outcome.mismatches]
    return "; ".join([*told, f"refused {outcome.refusal}"] if outcome.refusal is not None else told)


def _document(report: Report, reported: bool) -> Mapping[str, object]:
    document: dict[str, object] = {
        "passed": not report.failed,
        "counts": {"tests": len(report.outcomes), "failed": len(report.failed)},
        "tests": [{"passed": each.passed, **asdict(each)} for each in report.outcomes],
    }
    if reported:
        document["coverage"] = {"share": report.coverage, "unreached": [asdict(each) for each in report.unreached]}
    return document


def junit(report: Report) -> bytes:
    """The report as JUnit XML: one suite for each file, one case for each test."""
    root = ElementTree.Element("testsuites", name="mitmgate test")
    files: dict[str, list[Outcome]] = {}
    for outcome in report.outcomes:
        files.setdefault(outcome.file, []).append(outcome)
    for file, outcomes in files.items():
        root.append(_suite(file, outcomes))
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _suite(file: str, outcomes: Sequence[Outcome]) -> ElementTree.Element:
    errors = sum(each.error is not None for each in outcomes)
    suite = ElementTree.Element(
        "testsuite",
        name=file,
        tests=str(len(outcomes)),
        failures=str(sum(not each.passed for each in outcomes) - errors),
        errors=str(errors),
        time=f"{sum(each.seconds for each in outcomes):.3f}",
    )
    for each in outcomes:
        line = each.where.rpartition(":")[2]
        case = ElementTree.SubElement(
            suite, "testcase", name=_xml(each.name), classname=file, file=file, line=line, time=f"{each.seconds:.3f}"
        )
        if each.error is not None:
            ElementTree.SubElement(case, "error", message=_xml(each.error)).text = f"{each.where}: {_xml(each.error)}"
        elif each.mismatches:
            told = [f"{m.where or each.where}: {m.what}: expected {m.expected}, found {m.found}" for m in each.mismatches]
            told += [f"{each.where}: refused {each.refusal}"] if each.refusal is not None else []
            ElementTree.SubElement(case, "failure", message=_xml(_why(each))).text = _xml("\n".join(told))
    return suite


def _xml(text: str) -> str:
    """Text without the characters that no XML may hold, escaped or not."""
    return _NOT_XML.sub("�", text)
