"""What the documents say is so: reply headers, and every YAML that an operator may copy. (docs/errors.md: tests/console.)"""

import ast
import re
import shlex
from collections import ChainMap
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mitmgate.exchange import Exchange
from mitmgate.providers.vendors import DIALECT_AUTHORISATION, NEED_NO_URL, VENDORS
from mitmgate.rehearsal import rehearse_now, rules_alone
from mitmgate.rules.loader import load

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "bench").glob("*.md"))]
BLOCK = re.compile(r"^(?P<indent> *)```ya?ml[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
HEADER = re.compile(r"x-(?:gateway|model|retry|fallback|request|cache|ratelimit|guardrail|should)[a-z-]*")


def blocks() -> list[tuple[str, str]]:
    """Every whole rules document of the pages: where it stands, and its text."""
    found = []
    for page in PAGES:
        written = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(written):
            text = re.sub(f"^{block['indent']}", "", block["text"], flags=re.MULTILINE)
            first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
            if first.startswith("version: 1"):
                found.append((f"{page.relative_to(ROOT)}:{written.count(chr(10), 0, block.start()) + 1}", text))
    return found


def environ(text: str) -> ChainMap[str, str]:
    """Dummies for the variables that a text names."""
    keys = {vendor.variable: "dummy" for vendor in VENDORS.values() if vendor.variable}
    return ChainMap(dict.fromkeys(REFERENCE.findall(text), "dummy"), keys)


@pytest.mark.parametrize(("place", "text"), [pytest.param(*block, id=block[0]) for block in blocks()])
def test_rules_in_the_documents_load(tmp_path: Path, place: str, text: str) -> None:
    (tmp_path / "rules.yaml").write_text(text, encoding="utf-8")
    load(tmp_path, environ(text), NEED_NO_URL, DIALECT_AUTHORISATION)


def test_the_readme_shows_a_first_rule() -> None:
    """Issue 2: README tells an operator how to write a first rule. A block that is not recognised would not be tested."""
    assert any(place.startswith("README.md") for place, _ in blocks())


def test_a_call_says_who_it_is_as_the_page_shows(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8").partition("### How a call says who it is")[2]
    command = page.partition("```sh\n")[2].partition("```")[0].replace("\\\n", " ")
    words = shlex.split(command)
    headers = dict(words[at + 1].split(": ") for at, word in enumerate(words) if word == "-H")
    (tmp_path / "rules.yaml").write_text(
        "version: 1\nprojects: {support: {}, closed: {identify: {header: {x-app: closed}}}}\nproviders: {openai: {}}\n"
    )
    rules = rules_alone(tmp_path, {})

    def called(**changed: str) -> Exchange:
        given = {"url": urlsplit(words[1]).path, "headers": {**headers, **changed}, "body": words[words.index("-d") + 1]}
        return rehearse_now(given, rules).exchange

    call = called()
    assert (call.project, call.tenant, call.task, dict(call.tags)) == ("support", "acme", "drafts", {"team": "red"})
    assert called(**{"x-gateway-project-id": "closed"}).project == "unknown"
    assert called(**{"x-app": "closed"}).project == "closed"


def shipped() -> list[Path]:
    """Every folder of rules; their `tests/` and `teams/` are not folders of rules."""
    folders = {path.parent for path in (ROOT / "rules").rglob("*.yaml")}
    return sorted(folder for folder in folders if folder.name not in ("tests", "teams"))


def test_the_shipped_rules_are_found() -> None:
    assert ROOT / "rules" in shipped()
    assert len(shipped()) > 8


@pytest.mark.parametrize("folder", shipped(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_shipped_rules_load(folder: Path) -> None:
    written = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml"))
    load(folder, environ(written), NEED_NO_URL, DIALECT_AUTHORISATION)


def written_headers() -> set[str]:
    """The reply headers that the gateway writes: names in the code of the files that write replies."""
    found = {"x-should-retry", "x-gateway-upstream-request-id"}
    tree = ast.parse((ROOT / "addon" / "mitmgate" / "stages" / "stamp.py").read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and HEADER.fullmatch(node.value):
            found.add(node.value)
    return found


def test_the_headers_are_found() -> None:
    assert {"x-gateway-request-id", "x-model-used", "x-retry-count", "x-fallback-from", "x-cache"} <= written_headers()


@pytest.mark.parametrize("name", sorted(written_headers()))
def test_every_reply_header_is_documented(name: str) -> None:
    page = (ROOT / "docs" / "headers.md").read_text(encoding="utf-8")
    assert re.search(rf"(?<![a-z0-9-]){name}(?![a-z0-9-])", page, re.IGNORECASE), f"docs/headers.md says nothing of {name}"


def test_no_header_is_documented_that_nobody_writes() -> None:
    page = (ROOT / "docs" / "headers.md").read_text(encoding="utf-8").lower()
    ours = set(re.findall(r"(?<![a-z0-9-])x-gateway-[a-z-]*[a-z]", page))
    assert ours <= written_headers() | {"x-gateway-"}
