"""`mitmgate COMMAND`: one file per command; this one only finds it."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from mitmgate.cli import ca, check, explain, run, simulate, test
from mitmgate.cli.folders import wrong_folder
from mitmgate.cli.onboarding import ProxyAddress
from mitmgate.providers.vendors import DIALECT_AUTHORISATION, SPARE_HOSTS, VENDORS
from mitmgate.rules.loader import load
from mitmgate.rules.positions import RulesError
from mitmgate.runtime import default_intercept
from mitmgate.transport.house import named_ca
from mitmgate.version import VERSION


class Command(NamedTuple):
    """One command: what it is for, its options, what runs it."""

    about: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    main: Callable[[argparse.Namespace], int]


def _ca(args: argparse.Namespace) -> int:
    """The hosts that a new CA may sign for, a CA of the operators' own and where clients find the gateway stand in the
    rules, where they are given."""
    if args.rules is None:
        return ca.main(args, SPARE_HOSTS)
    if wrong := wrong_folder(args.rules):
        print(f"mitmgate ca: {wrong}", file=sys.stderr)
        return 2
    try:
        rules = load(args.rules, known_vendors=VENDORS, known_dialects=DIALECT_AUTHORISATION)
    except RulesError as error:
        print("\n".join(map(str, error.problems)), file=sys.stderr)
        return 1
    intercept = rules.intercept if rules.intercept is not None else default_intercept(rules)
    spare = () if args.pac else (*rules.listen.hosts, *SPARE_HOSTS)
    listen = rules.listen.proxy
    gateway = ProxyAddress.listening(listen.host, listen.port, rules.listen.hosts)
    return ca.main(args, (*intercept, *spare), named_ca(rules, args.rules), gateway)


COMMANDS: Final[Mapping[str, Command]] = {
    "run": Command("run the gateway", run.add_arguments, run.main),
    "check": Command("validate rules", check.add_arguments, check.main),
    "explain": Command("why a request goes where it goes", explain.add_arguments, explain.main),
    "test": Command("run the tests that stand beside the rules", test.add_arguments, test.main),
    "simulate": Command("run the simulator alone", simulate.add_arguments, simulate.main),
    "ca": Command("the interception CA and how clients come to trust it", ca.add_arguments, _ca),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 the answer is no, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="mitmgate", description="An LLM gateway inside mitmproxy.",
        epilog="`mitmgate COMMAND --help` tells what a command takes.",
    )
    parser.add_argument("--version", action="version", version=f"mitmgate {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.about, description=command.about))
    args, unknown = parser.parse_known_args(arguments)
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    if unknown:                             # told with the command's own usage, not with the list of commands
        commands.choices[args.command].error(f"unknown arguments: {' '.join(unknown)}")
    try:
        return COMMANDS[args.command].main(args)
    except BrokenPipeError:                 # the reader of our output has gone (`mitmgate ca | head -1`)
        sys.stderr.close()
        return 1
