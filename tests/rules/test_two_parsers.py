"""libyaml changes how long a file takes and nothing else: what it may read, ruamel.yaml reads the same way."""

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from mitmgate.rules import events, nodes
from mitmgate.rules.events import TAGS, Libyaml, NotAlike, Ruamel
from mitmgate.rules.nodes import MOST_NODES, Composer, Map, compose
from mitmgate.rules.positions import Problem

type Read = tuple[Map | None, list[Problem]]

PIECES = [*"abc 12:-?,[]{}&*!|>'\"%@`#~\\\t\n\r.=<+", "\n  ", "\n- ", ": ", "\na: ", "\n  b: ", "\nc:", "--- ", "...\n",
          "\n---\n", "\\x", "\\u12", "\\U0011ffff", "\\ud83d", "\\/",
          "&a ", "*a", "&a: ", "!!str ", "%YAML 1.2\n", "%YAML 1.1\n", "\r%",
          "|2-\n", ">+9\n", "|\n", ">\n", ">-\r\n  \r\n  x", "\ufeff", "\u2028", "\x85", "\x7f", "\x01", "\ufffe", "é", "😀",
          "null", "? ", "[a, b]", "{a: b}", "'x'", '"y"', " #c\n", "k" * 1_023]
WHOLE = [
    "version: 1\nproviders: {openai: {}, groq: }\nroutes:\n  - name: a\n    match:\n      model: [\"gpt-4o*\", b]\n"
    "      header: {x-a: '1'}\n    targets:\n      - {provider: groq, model: $1, weight: 3}\n"
    "      -\n        provider: openai\n",
    "a: |\n  x\n  y\n# c\nb: >-\n  x\n\n  # c\n\n# d\nc: 'x\n  y'\nd: \"e\n\n  f\"\ng:\n- h\n- - i\n  - j\n-\n  k: l\n",
    "{a: 1, b: [1, 2, {c: d}], 'e': \"f\", g: , h}\n",
    "a: &x [1,2]\nb: *x\nc: {d: *x, e: &y z, f: *y }\ng: [*x, *y]\nh: &z\n",
    "a: ",
    "",
]


def fast(text: str) -> Read | None:
    """What libyaml reads; None if the file is ruamel.yaml's."""
    try:
        composer = Composer(Libyaml(text), "a.yaml", MOST_NODES)
        read = composer.read()
    except NotAlike:
        return None
    return None if composer.refused else read


def slow(text: str) -> Read:
    return Composer(Ruamel(text), "a.yaml", MOST_NODES).read()


@st.composite
def edited(draw: st.DrawFn) -> str:
    """A file with some pieces put in, or in place of a few characters."""
    text = draw(st.sampled_from(WHOLE))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(text)))
        end = begin + draw(st.sampled_from([0, 0, 0, 1, 2, 5]))
        text = text[:begin] + "".join(draw(st.lists(st.sampled_from(PIECES), max_size=3))) + text[end:]
    return text


@given(edited())
@example("a: &a: b\n")
@example("a: [&x 1, *x.y]\n")
@example("a: >#\n")
@example("a: |\n \n  y\n")
@example("a: |  # c\n  y\n")
@example("a: b\r%c\r")
@example("-\n- b\n")
@example("a:\n-\n-\n")
@example("? a\n: b\n")
@example("a: 'b\u2028c'\n")
@example("a:\tb\n")
@example("k" * 1_024 + ": 1\n")
@example("k" * 1_025 + ": 1\n")
@example('{"k":1, "l":[2]}\n')
def test_both_read_the_same(text: str) -> None:
    ours = fast(text)
    if ours is None:
        event("ruamel.yaml's")
        return
    theirs = slow(text)
    if ours[1] and theirs[1]:
        event("wrong for both")             # one of two mistakes may be found by one and the other by the other
        assert ours[1] == theirs[1] or (ours[0] is None and theirs[0] is None)
        return
    event("right for both")
    assert ours == theirs


@given(edited())
@example("? &a: ")
@example("a: {? &b: : c}")
def test_a_file_has_the_tree_and_problems_that_ruamel_gives_it(text: str) -> None:
    tree, wrong = compose(text, "a.yaml")
    expected, problems = slow(text)
    assert tree == expected
    assert bool(wrong) == bool(problems)


def test_most_files_are_libyamls() -> None:
    assert [fast(text) is not None for text in WHOLE] == [True] * len(WHOLE)
    assert events.HAS_LIBYAML, "PyYAML's wheels have libyaml; without it this file tests nothing"


def test_without_libyaml_the_bounds_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: [" + "1," * 12_000 + "]\n"
    with_libyaml = compose(text, "a.yaml")
    monkeypatch.setattr(nodes, "HAS_LIBYAML", False)
    assert compose(text, "a.yaml") == with_libyaml
    assert compose("a: [" + "1," * MOST_NODES + "]\n", "a.yaml")[1][0].message == (
        f"more than {MOST_NODES:,} values in one file: split it"
    )


# Beyond what ruamel.yaml is given to read, libyaml's own words are put as plainly, and where it noticed.
@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("x: @y", "1:4: text that begins with `%`, `@` or a backtick must be in quotes"),
        ("x: y: z", "1:5: a `key:` where none is expected: check the indentation, or quote the text"),
        ("x: [a", "1:4: a list in brackets that is not closed, or holds text that must be in quotes"),
        ("x: {a: b", "1:4: a map in braces that is not closed, or holds text that must be in quotes"),
        ("x: [\n", "2:1: the file ends where a value is expected: a list or map is not closed"),
        ("x: ]\n", "1:4: a value is expected here: text that begins with a sign must be in quotes"),
        ('x: "a', "1:4: a text in quotes that is not closed"),
        ('x: "\\q"', "1:5: an unknown `\\` sequence: use single quotes, where `\\` has no meaning"),
        ("x: *.corp", "1:5: text that begins with `&` or `*` must be in quotes"),
        ("x: !y z", f"1:4: x: {TAGS}"),
        ("x:\n- a\n  b: c\n", "3:4: a `key:` where none is expected: check the indentation, or quote the text"),
        ("x:\n  y: 1\n z: 2\n", "3:2: the indentation does not fit the lines above"),
        ("x:\n  - a\n - b\n", "3:2: the indentation does not fit the lines above"),
        ("x\ny: z", "1:1: a key without its `:`"),
        ("x: \x07", "1:4: the control character U+0007 is not allowed"),
    ],
)
def test_what_is_wrong_far_down_a_long_file(last: str, expected: str) -> None:
    before = nodes.SLOW_MOST_NODES // 2 + 1
    _, wrong = compose("".join(f"a{line}: é\n" for line in range(before)) + last, "a.yaml")
    line, rest = expected.split(":", 1)
    assert [str(problem) for problem in wrong] == [f"a.yaml:{before + int(line)}:{rest}"]
