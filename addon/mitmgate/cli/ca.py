"""`mitmgate ca`: the CA's path and what each client needs to trust it; its rotation; a PAC file."""

import argparse
import dataclasses
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mitmgate.cli.onboarding import ProxyAddress, bundle_of, pac, recipes
from mitmgate.providers.vendors import SPARE_HOSTS
from mitmgate.transport import confdir as files
from mitmgate.transport.authority import Authority, AuthorityError, CaFiles, load_or_create, to_pem
from mitmgate.transport.rotation import Rotation, activate, rotate, trusted

DEFAULT_CONFDIR: Final = Path("~/.mitmgate")
"""What a CA may sign for where no rules say what is intercepted: the known vendors' hosts."""

DEFAULT_GATEWAY: Final = ProxyAddress("http", "127.0.0.1", 8080)

BUNDLE_FILE: Final = "system-bundle.pem"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("action", nargs="?", choices=["rotate"], help="make the next CA; the present one goes on signing")
    parser.add_argument("--activate", action="store_true", help="with rotate: the next CA signs from the next start on")
    parser.add_argument("--confdir", type=Path, default=DEFAULT_CONFDIR, metavar="DIR", help="its folder (%(default)s)")
    parser.add_argument("--rules", type=Path, metavar="DIR", help="the rules: what is intercepted, where the gateway is")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--path", action="store_true", help="print the certificate's path alone")
    shown.add_argument(
        "--bundle", nargs="?", const="", metavar="FILE",
        help="write the system's CAs and ours to a file (in the confdir unless named) and print its path; - prints it",
    )
    shown.add_argument("--pac", action="store_true", help="print a PAC file: these hosts come here, all else goes DIRECT")
    parser.add_argument("--host", nargs="+", metavar="PATTERN", help="with --pac: the hosts (default: intercepted ones)")
    parser.add_argument(
        "--proxy", type=_proxy, metavar="HOST:PORT",
        help=f"where clients reach the gateway (default: where the rules listen; without rules {DEFAULT_GATEWAY.authority})",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def main(
    args: argparse.Namespace,
    permitted: Sequence[str] = SPARE_HOSTS,
    named: CaFiles | None = None,
    gateway: ProxyAddress = DEFAULT_GATEWAY,
) -> int:
    """Runs the command; 0 done, 1 the CA cannot be used, 2 wrong usage.

    `permitted`: the hosts that a new CA may sign for; `named`: `ca:` of the rules; `gateway`: where the rules listen.
    """
    wrong = _misuse(args, gateway)
    if wrong is not None:
        print(f"mitmgate ca: {wrong}", file=sys.stderr)
        return 2
    proxy = args.proxy or gateway
    try:
        if args.pac:
            script = pac(args.host or permitted, proxy)
            print(json.dumps({"pac": script}) if args.json else script.rstrip("\n"))
        elif args.action == "rotate":
            _rotate(args, permitted, named)
        else:
            _show(args, permitted, named, proxy)
    except AuthorityError as error:
        print(f"mitmgate ca: {error}", file=sys.stderr)
        return 1
    return 0


def _misuse(args: argparse.Namespace, gateway: ProxyAddress) -> str | None:
    if args.activate and args.action != "rotate":
        return "--activate belongs to `mitmgate ca rotate`"
    if args.host and not args.pac:
        return "--host belongs to --pac"
    if args.action == "rotate":
        more = args.path or args.pac or args.proxy or args.bundle is not None
        return "rotate goes with --activate, --confdir, --rules and --json only" if more else None
    if args.path:
        return None
    if args.bundle is not None:
        return _unfit_bundle(args.bundle)
    if args.proxy is None and gateway.port == 0:
        return "the rules let the system choose the port: say where the gateway is with --proxy HOST:PORT"
    return None


def _unfit_bundle(name: str) -> str | None:
    """Why the bundle cannot be written there; "" and "-" are no names."""
    path = Path(name)
    if name and path.is_dir():
        return f"--bundle takes a file; {path} is a folder"
    return None if path.parent.is_dir() else f"--bundle: there is no folder {path.parent}"


def _rotate(args: argparse.Namespace, permitted: Sequence[str], named: CaFiles | None) -> None:
    if named is not None:
        raise AuthorityError(
            f"the rules name their own CA ({named.certificate}): put the new files there, "
            "and the old certificate under ca: {previous: […]}"
        )
    done = activate(args.confdir) if args.activate else rotate(args.confdir, permitted)
    for note in done.notes:
        print(f"mitmgate ca: {note}", file=sys.stderr)
    if args.json:
        print(json.dumps(_rotation(done), indent=2))
    elif done.activated:
        print(f"The new CA signs from the gateway's next start on: {done.fingerprint}")
        print(f"It is valid until {done.expires:%Y-%m-%d}. The old key is gone; its certificate is in previous/.")
    else:
        print(f"The next CA: {done.fingerprint}")
        print(f"1. Let clients trust both, present and next: {done.bundle}")
        print("2. When all do: mitmgate ca rotate --activate, then restart the gateway.")


def _show(args: argparse.Namespace, permitted: Sequence[str], named: CaFiles | None, proxy: ProxyAddress) -> None:
    authority = load_or_create(args.confdir, permitted=permitted, ca=named)
    if authority.created:
        print(f"mitmgate ca: there was no CA yet; made {authority.certificate_path}", file=sys.stderr)
    for warning in authority.warnings:
        print(f"mitmgate ca: {warning}", file=sys.stderr)
    if args.path:
        print(json.dumps({"certificate": str(authority.certificate_path)}) if args.json else authority.certificate_path)
        return
    content = bundle_of(_trusted(authority, args.confdir.expanduser(), named))
    if args.bundle == "-":
        text = content.decode()
        print(json.dumps({"bundle": text}) if args.json else text.rstrip("\n"))
        return
    folder = files.prepare_confdir(args.confdir).absolute()
    bundle = Path(args.bundle).absolute() if args.bundle else folder / BUNDLE_FILE
    files.replace_file(bundle, content)
    if args.bundle is not None:
        print(json.dumps({"bundle": str(bundle)}) if args.json else bundle)
        return
    answer = _answer(authority, bundle, proxy)
    print(json.dumps(answer, indent=2) if args.json else _text(answer))


def trust_file(authority: Authority, confdir: Path) -> Path | None:
    """What SSL_CERT_FILE should name: the system's CAs and ours in one file, so that what is tunnelled verifies too.

    None where `mitmgate ca` has not written one for the CA that signs now. Nothing is written here: a running gateway
    keeps nothing but its CA in the confdir.
    """
    bundle = confdir.expanduser().absolute() / BUNDLE_FILE
    try:
        return bundle if to_pem(authority.chain[0]).strip() in bundle.read_bytes() else None
    except OSError:
        return None


def _trusted(authority: Authority, confdir: Path, named: CaFiles | None) -> list[bytes]:
    """The certificates that clients should trust now, as PEM."""
    if named is None:
        return [to_pem(one) for one in trusted(confdir)]
    return [*(to_pem(one) for one in authority.chain), *(files.read_public(path) for path in authority.previous)]


def _answer(authority: Authority, bundle: Path, proxy: ProxyAddress) -> dict[str, Any]:
    certificate = authority.certificate_path.absolute()
    return {
        "certificate": str(certificate),
        "bundle": str(bundle),
        "fingerprint": authority.fingerprint,
        "expires": authority.expires.isoformat(),
        "previous": [str(path) for path in authority.previous],
        "created": authority.created,
        "warnings": list(authority.warnings),
        "proxy": proxy.url,
        "clients": [dataclasses.asdict(recipe) for recipe in recipes(certificate, bundle, proxy)],
    }


def _text(answer: dict[str, Any]) -> str:
    lines = [
        f"CA certificate        {answer['certificate']}",
        f"SHA-256 fingerprint   {answer['fingerprint']}",
        f"valid until           {answer['expires'][:10]}",
        f"system CAs and ours   {answer['bundle']}",
    ]
    for client in answer["clients"]:
        lines += ["", f"# {client['title']}", *client["lines"]]
        lines += textwrap.wrap(client["note"], 116, initial_indent="#   ", subsequent_indent="#   ")
    return "\n".join(lines)


def _rotation(done: Rotation) -> dict[str, Any]:
    return {
        "fingerprint": done.fingerprint,
        "expires": done.expires.isoformat(),
        "bundle": str(done.bundle),
        "activated": done.activated,
        "notes": list(done.notes),
    }


def _proxy(text: str) -> ProxyAddress:
    try:
        return ProxyAddress.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
