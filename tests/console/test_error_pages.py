"""docs/errors.md agrees with the error table, ships with the package, and becomes safe HTML."""

import re
import tomllib
from pathlib import Path

import pytest

from mitmgate.console.docs import doc_url, error_page, error_sections, errors_page
from mitmgate.errors import CODES

ROOT = Path(__file__).parents[2]


def test_every_code_has_its_section_and_no_other_has() -> None:
    assert [code for code in error_sections() if code] == list(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_section_agrees_with_the_table_and_says_what_to_do(code: str) -> None:
    section = error_sections()[code]
    assert re.findall(r"^- Status: (\d+)$", section, re.MULTILINE) == [str(CODES[code].status)]
    assert re.findall(r"^- Type: `(\w+)`$", section, re.MULTILINE) == [CODES[code].type]
    _, meaning, advice = section.split("\n\n")
    assert len(meaning) > 40
    assert advice.startswith("What to do: ")


def test_docs_and_package_are_one_text() -> None:
    assert (ROOT / "docs" / "errors.md").samefile(ROOT / "addon" / "mitmgate" / "console" / "errors.md")


def test_the_text_is_package_data() -> None:
    """Without this an installation that is not editable has no pages."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "errors.md" in declared["tool"]["setuptools"]["package-data"]["mitmgate.console"]


@pytest.mark.parametrize("admin", ["http://127.0.0.1:8081", "http://127.0.0.1:8081/"])
def test_doc_url(admin: str) -> None:
    assert doc_url(admin, "refused") == "http://127.0.0.1:8081/docs/errors/refused"
    assert doc_url(admin, "a/../b?c") == "http://127.0.0.1:8081/docs/errors/a%2F..%2Fb%3Fc"


def test_pages_escape_every_text() -> None:
    evil = "<img src=x onerror=alert(1)>"
    page = error_page(evil, f"- {evil}\n- `{evil}`\n\n{evil} & `{evil}`\n\n    {evil}")
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") == 7
    assert "<img" not in errors_page({"": evil, evil: evil})


def test_a_page_renders_the_markdown_of_the_file() -> None:
    page = error_page("x", "- Status: 400\n- Type: `t`\n\nOne\ntwo `code`.\n\n    {pre}")
    assert "<ul><li>Status: 400</li><li>Type: <code>t</code></li></ul>" in page
    assert "<p>One\ntwo <code>code</code>.</p>" in page
    assert "<pre>    {pre}</pre>" in page


def test_the_list_links_every_code() -> None:
    assert re.findall(r'href="/docs/errors/(\w+)"', errors_page(error_sections())) == list(CODES)
