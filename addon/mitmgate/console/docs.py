"""The pages about errors, out of errors.md beside this file: one source for readers of docs/ and of the admin port.

The markdown is package data, so that an installed gateway serves what its errors' `doc_url` promises; docs/errors.md is
a link to it. Only the markdown that the file uses is understood, and every text is escaped.
"""

import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44em;margin:2em auto;padding:0 1em;color-scheme:light dark}"
    "code,pre{font-family:ui-monospace,monospace;background:#8882}pre{padding:.5em;overflow:auto}"
)
_CODE: Final = re.compile(r"`([^`]+)`")


def doc_url(admin: str, code: str) -> str:
    """The page about `code`; `admin` is the admin port's address as a URL, e.g. http://127.0.0.1:8081."""
    return f"{admin.rstrip('/')}/docs/errors/{quote(code, safe='')}"


def error_sections() -> Mapping[str, str]:
    """The markdown below each code's heading, in the file's order; under "" what stands before the first."""
    text = resources.files("mitmgate.console").joinpath("errors.md").read_text(encoding="utf-8")
    before, *sections = text.split("\n## ")
    found = {"": before.partition("\n")[2].strip()}
    for section in sections:
        heading, _, rest = section.partition("\n")
        found[heading.strip()] = rest.strip()
    return MappingProxyType(found)


def error_page(code: str, section: str) -> str:
    """One code's page as HTML."""
    return html_page(code, f'{_paragraphs(section)}<p><a href="/docs/errors">All errors</a></p>')


def errors_page(sections: Mapping[str, str]) -> str:
    """The list of all codes as HTML, each a link to its page."""
    links = "".join(f'<li><a href="{doc_url("", code)}">{escape(code)}</a></li>' for code in sections if code)
    return html_page("Errors", f"{_paragraphs(sections[''])}<ul>{links}</ul>")


def html_page(title: str, body: str) -> str:
    """A whole page; `title` is text, `body` is HTML that is already safe."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)} · mitmgate</title>'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    )


def _paragraphs(markdown: str) -> str:
    return "".join(_block(block) for block in re.split(r"\n{2,}", markdown))


def _block(block: str) -> str:
    if block.startswith("    "):
        return f"<pre>{escape(block)}</pre>"
    if block.startswith("- "):
        return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in block[2:].split("\n- ")) + "</ul>"
    return f"<p>{_inline(block)}</p>"


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
