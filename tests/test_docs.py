"""What the documents say is so: reply headers, and every YAML that an operator may copy. (docs/errors.md: tests/console.)"""

import ast
import itertools
import re
import shlex
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mitmgate.dialects.canonical import EFFORTS
from mitmgate.dialects.codec import Ask
from mitmgate.dialects.registry import codecs
from mitmgate.exchange import Exchange
from mitmgate.providers.capabilities import CAPABILITIES
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


DIALECTS = (ROOT / "docs" / "dialects.md").read_text(encoding="utf-8")


def cells_of(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading of docs/dialects.md, without its head."""
    lines = itertools.dropwhile(lambda line: line[:1] != "|", DIALECTS.partition(f"{heading}\n")[2].splitlines())
    table = list(itertools.takewhile(lambda line: line[:1] == "|", lines))[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_page_on_dialects_names_them_all() -> None:
    assert all(f"`{word}`" in DIALECTS for word in (*DIALECT_AUTHORISATION, *CAPABILITIES))


@pytest.mark.parametrize("vendor", sorted(name for name, vendor in VENDORS.items() if vendor.quirks - {"one_choice"}))
def test_the_page_on_dialects_has_every_vendors_quirks(vendor: str) -> None:
    told = " ".join(" ".join(row) for row in cells_of("### Vendors that differ") if f"`{vendor}`" in row[0])
    words = {
        "max_completion_tokens": "`max_tokens` is called `max_completion_tokens`", "no_logit_bias": "`logit_bias`",
        "max_tokens": "`max_completion_tokens` is called `max_tokens`", "no_logprobs": "`top_logprobs`", "no_names": "names",
        "no_responses": "no Responses API", "no_stream_options": "`stream_options`", "random_seed": "`random_seed`",
    }  # fmt: skip
    assert all(words[quirk] in told for quirk in VENDORS[vendor].quirks if quirk != "one_choice"), told


COLUMNS = (
    ("anthropic", "claude-sonnet-4-5", ("thinking", "budget_tokens")),
    ("anthropic", "claude-opus-4-7", ("output_config", "effort")),
    ("gemini", "gemini-2.5-flash", ("generationConfig", "thinkingConfig", "thinkingBudget")),
    ("gemini", "gemini-3-flash", ("generationConfig", "thinkingConfig", "thinkingLevel")),
    ("bedrock", "amazon.nova-2-lite-v1:0", ("additionalModelRequestFields", "reasoningConfig", "maxReasoningEffort")),
    ("bedrock", "openai.gpt-oss-120b-1:0", ("additionalModelRequestFields", "reasoning_effort")),
    ("cohere", "command-a-reasoning-08-2025", ("thinking", "token_budget")),
)  # fmt: skip
"""A model for each column of the table of efforts, and where it is told how much to reason."""


def told_effort(provider: str, model: str, way: tuple[str, ...], effort: str) -> str:
    found = codecs("openai", "chat", provider)
    assert found is not None
    document = {"messages": [{"role": "user", "content": "hello"}], "reasoning_effort": effort}
    value: Any = found.provider.request(Ask(document, model, False, "1", 1)).document
    for name in way:
        value = value.get(name, {}) if isinstance(value, Mapping) else {}
    return f"{value:,}" if isinstance(value, int) else str(value or "")


@pytest.mark.parametrize(("row", "effort"), list(enumerate(EFFORTS)))
def test_the_table_of_efforts_is_what_codecs_say(row: int, effort: str) -> None:
    cells = cells_of("## Reasoning")[row]
    assert cells[0] == f"`{effort}`"
    for cell, column in zip(cells[1:], COLUMNS, strict=True):
        told = told_effort(*column, effort)
        assert told.strip("`") == re.split("[;,] ", cell)[0].strip("`") or (cell, told) in QUIET, (cell, told, column)


QUIET = {("off", ""), ("dropped", ""), ("no bound", ""), ("the model's least", "1")} | {
    ("off, or `low` where it always thinks; on Bedrock nothing is said", ""),
}


UNSAID = {
    "seed": 1 << 40, "logprobs": True, "logit_bias": {"1": 1}, "metadata": {"a": "ü"}, "store": True,
    "prediction": {"a": "b"}, "verbosity": "low", "extra_body": {"a": "b"}, "user": "a@b.example", "n": 2, "top_k": 5,
    "parallel_tool_calls: false": False, "functions": [{"name": "f"}], "modalities": ["audio"], "audio": {"voice": "a"},
    "service_tier": "flex", "top_logprobs": 2,
    "response_format: json_object": {"type": "json_object"},
}  # fmt: skip
"""What the table of dropped members may name by itself, each with a value that says something."""


@pytest.mark.parametrize(("row", "provider", "model"), [
    (0, "openai", "gpt-5"), (1, "anthropic", "claude-opus-4-7"), (2, "gemini", "gemini-2.5-pro"), (3, "bedrock", "meta.llama"),
    (4, "cohere", "command-a"),
])  # fmt: skip
def test_what_the_page_calls_dropped_is_dropped(row: int, provider: str, model: str) -> None:
    named, cell, _ = cells_of("## What cannot be said")[row]
    words = [word for word in re.findall(r"`([^`]+)`", cell) if word in UNSAID]
    assert named.startswith(f"`{provider}`")
    assert words
    found = codecs("openai", "chat", provider)
    assert found is not None
    for word in words:
        member = word.partition(":")[0]
        document = {"messages": [{"role": "user", "content": "hello"}], member: UNSAID[word]}
        assert member in found.provider.request(Ask(document, model, False, "1", 1)).dropped, (provider, word)


SEES = {"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
SPEAKS = {"content": "hello"}


@pytest.mark.parametrize(
    ("rules_with", "asked", "models"),
    [
        ("reproducible", {"model": "m", "seed": 1, "message": SPEAKS}, ("openai/gpt-4o",)),
        ("reproducible", {"model": "m", "message": SPEAKS}, ("anthropic/claude-sonnet-4-6",)),
        ("house-first", {"model": "best", "message": SPEAKS}, ("vllm/our-finetune", "openai/gpt-5")),
        ("house-first", {"model": "best", "message": SEES}, ("openai/gpt-5",)),
        ("house-first", {"model": "best", "message": {"content": "word " * 40_000}}, ("openai/gpt-5",)),
        ("house-first", {"model": "our-finetune", "message": SPEAKS, "min_reasoning_level": "high"}, ()),
        ("house-first", {"model": "auto", "message": SEES}, ("openai/gpt-5",)),
        ("vertex-eu", {"model": "claude", "message": SPEAKS}, ("bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",)),
    ],
)
def test_the_examples_on_dialects_do_what_they_say(
    tmp_path: Path, rules_with: str, asked: dict[str, Any], models: tuple[str, ...]
) -> None:
    (text,) = (text for place, text in blocks() if "dialects.md" in place and rules_with in text)
    (tmp_path / "rules.yaml").write_text(text, encoding="utf-8")
    message = {"role": "user", **asked["message"]}
    body = {name: value for name, value in asked.items() if name != "message"} | {"messages": [message]}
    rehearsed = rehearse_now({"url": "/v1/chat/completions", "body": body}, rules_alone(tmp_path, environ(text)))
    assert rehearsed.models == models
    assert (rehearsed.refusal is None) == bool(models)
