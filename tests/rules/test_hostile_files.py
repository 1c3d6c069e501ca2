"""Files made to hurt: each is answered within a second (THREATS, row 25)."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mitmgate.rules.events import TAGS
from mitmgate.rules.files import LARGEST, LARGEST_FOLDER, MOST_FILES
from mitmgate.rules.loader import MOST_VALUES, load
from mitmgate.rules.nodes import MOST_NODES, SLOW_LARGEST, SLOW_MOST_NODES, compose
from mitmgate.rules.positions import MOST_PROBLEMS, RulesError

# CPU seconds of this thread, the best of `TURNS`: a busy neighbour on the same core slows a turn, it never speeds one up.
BOUND = 1.0
TURNS = 3

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)
)
ROOM = LARGEST - 32
NODES = MOST_NODES - 20
START = "version: 1\nproviders: {openai: }\nroutes:\n"


def many(piece: str, values: int) -> str:
    """`piece`, which is so many values, as often as a file may hold it; a `%d` in it is its number."""
    times = min(NODES // values, (ROOM - len(START)) // (len(piece) + 4))
    return "".join(piece.replace("%d", str(number)) for number in range(times))


TOO_MUCH = {
    "aliases": (BOMB, "5:8: e[0]: aliases repeat more than 10,000 values"),
    "deep aliases": (
        "a: &a [[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]\nb: [[[[[[[[[[[[[[[[*a]]]]]]]]]]]]]]]]\n",
        "2:20: b" + "[0]" * 16 + ": more than 32 levels deep",
    ),
    "size": ("a: " + "x" * LARGEST, "1:1: the file is larger than 1024 KiB: split it"),
    "five MiB": ("#" * (5 << 20), "1:1: the file is larger than 1024 KiB: split it"),
    "open brackets": ("[" * ROOM, "1:33: " + "[0]" * 32 + ": more than 32 levels deep"),
    "open braces": ("{a: " * (ROOM // 4), "1:126: " + ".".join("a" * 31) + ": more than 32 levels deep"),
    "dashes": ("- " * (ROOM // 2), "1:65: " + "[0]" * 32 + ": more than 32 levels deep"),
    "indents": (
        "\n".join(" " * i + "a:" for i in range(700)), "32:32: " + ".".join("a" * 31) + ": more than 32 levels deep"
    ),
    "values": ("a: [" + "1," * (ROOM // 2) + "]", "1:39999: a[19997]: more than 20,000 values in one file: split it"),
    "tags": ("%TAG !a! x\n" * (SLOW_LARGEST // 11), f"2:1: {TAGS}"),
    "many tags": (
        "%TAG !a! x\n" * (ROOM // 11),
        "1:1: only a file of at most 128 KiB and 8,000 values may hold a line that begins with `%`",
    ),
    "a tab among many values": (
        "a: 1\n" * SLOW_MOST_NODES + "b:\tc\n",
        "8001:3: only a file of at most 128 KiB and 8,000 values may hold a tab",
    ),
    "an unlike name among many values": (
        "a: [" + "1," * SLOW_MOST_NODES + "&a: 1]",
        "1:16005: only a file of at most 128 KiB and 8,000 values may hold a name of this kind behind `&` or `*`",
    ),
    "broken after many values": (
        many("a%d: 1\n", 2) + "x: [\n",
        f"{NODES // 2 + 2}:1: the file ends where a value is expected: a list or map is not closed",
    ),
    "a control character far behind": (
        "# é\n" * (ROOM // 5) + "\x01", f"{ROOM // 5 + 1}:1: the control character U+0001 is not allowed"
    ),
    "problems": (
        "version: 1\nroutes: [" + many("{},", 1) + "]",
        f"2:{10 + 3 * MOST_PROBLEMS // 2}: there are more problems than 1,000",
    ),
    "digits": (
        "version: " + "9" * ROOM, "1:10: version: the number has more than 64 bits: put it in quotes if it is a name"
    ),
    "environment": (
        "version: 1\naccess: '" + "${BIG}" * (ROOM // 6) + "'",
        "2:9: access: becomes longer than 65,536 characters, or all such texts longer than 5,242,880",
    ),
    "references": (
        "version: 1\naccess: '" + "${" * (ROOM // 2 - 16) + "'",
        "2:9: access: expected `${NAME}` or `${NAME:-default}`; write `$${` for a `${` that is meant as it is",
    ),
}

SLOW = {
    "words": "a: " + "x " * (ROOM // 2),
    "broken words": "a: " + "x " * (SLOW_LARGEST // 2 - 8) + '\n"b',
    "words and tabs": "a: " + "x\t" * (SLOW_LARGEST // 2 - 8),
    "lines": "a:\n" + "  x\n" * (ROOM // 4),
    "blank lines": "\n" * ROOM,
    "comments": "#\n" * (ROOM // 2),
    "single values": "routes: [" + many("1,", 1) + "]",
    "values and words": "routes: [" + many("1,", 1) + "]\na: " + "x " * ((ROOM - 3 * MOST_NODES) // 2),
    "broken values": "routes: [" + "1," * (SLOW_MOST_NODES - 20),
    "values broken at the end": "routes: [" + many("1,", 1),
    "values and a tab": "routes: [" + "1," * (SLOW_MOST_NODES - 20) + "\t]",
    "unknown keys": many("key%d: 1\n", 2),
    "the same key": many("a: 1\n", 2),
    "long keys": many("k" * 1_000 + "%d: 1\n", 2),
    "anchors": "a: [" + many("&a%d 1,", 1) + "]",
    "escapes": 'a: "' + "\\n" * (ROOM // 2) + '"',
    "folded": "a: >\n" + "  x y\n\n" * (ROOM // 7),
    "lists in lists": "a:\n" + many("- " * 28 + "x\n", 29),
    "deep paths": "\n".join(" " * depth + "abcdefghijkl:" for depth in range(28)) + " [" + many("9" * 25 + ",", 1) + "]",
    "numbers": "a: [" + many("9" * 25 + ",", 1) + "]",
    "unset variables": "a: [" + many("${X},", 1) + "]",
    "no values": many("a%d:\n", 2),
    "nulls": "routes: [" + many("~,", 1) + "]",
    "providers": "version: 1\nproviders:\n" + many("  prov%dx: {}\n", 2),
    "providers with credentials": "version: 1\nproviders:\n"
    + many("  p%d: {base_url: http://x.y, dialect: q, credential: {x: y}}\n", 10),
    "unknown providers": START + many("  - {name: r%d, targets: [{provider: q%d}]}\n", 9),
    "empty routes": START + many("- {}\n", 1),
    "wrong routes": START + many("- {name: 1, targets: [{}], retry: {max: 9, on: [a, b]}, set: 3}\n", 18),
    "targets": START + "- name: a\n  targets: [" + many("{},", 1) + "]\n",
    "conditions": START + many("- {name: r%d, match: {when: request.stream == %d}, targets: [{provider: openai}]}\n", 13),
    "headers": START + "- {name: a, targets: [], match: {header: {" + many("' %d': b,", 2) + "}}}",
    "models": "models: {" + many("m%d: {},", 2) + "}",
    "aliases of models": "aliases: {" + many("m%d: {},", 2) + "}",
    "policies": "policies: [" + many("{name: a},", 3) + "]",
    "budgets": "budgets: [" + many("{name: a, of: {}, limit: x, per: y},", 8) + "]",
    "networks": "intercept: [" + many("10.0.0.0/33,", 1) + "]",
    "big environment": "version: 1\nintercept: [" + many("'${BIG}',", 1) + "]",
}


def problems(folder: Path, text: str) -> list[str]:
    (folder / "a.yaml").write_text(text, encoding="utf-8")
    for turn in range(1, TURNS + 1):
        begun = time.thread_time()
        with pytest.raises(RulesError) as caught:
            load(folder, {"BIG": "z" * 60_000}, ("openai",))
        if (took := time.thread_time() - begun) < BOUND:
            break
        assert turn < TURNS, f"{took:.2f} s of CPU in the last of {TURNS} turns"
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_of_something(tmp_path: Path, name: str) -> None:
    text, expected = TOO_MUCH[name]
    assert f"a.yaml:{expected}" in problems(tmp_path, text)


@pytest.mark.parametrize("name", SLOW)
def test_what_is_slow_to_parse(tmp_path: Path, name: str) -> None:
    assert len(SLOW[name]) <= LARGEST
    assert len(problems(tmp_path, SLOW[name])) <= MOST_PROBLEMS + 1


def test_a_link_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text("version: 1\n")
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "a.yaml").symlink_to(outside)
    (folder / "b.yaml").symlink_to("../rules-of-others/b.yaml")
    with pytest.raises(RulesError) as caught:
        load(folder, {})
    assert [str(p) for p in caught.value.problems] == [
        "a.yaml:1:1: a link that leads out of the rules folder",
        "b.yaml:1:1: a link that leads out of the rules folder",
    ]


def test_links_inside_the_folder_are_how_kubernetes_mounts_files(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "a.yaml").write_text("version: 1\n")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert load(tmp_path, {}).version == 1


def test_what_is_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").mkdir()
    (tmp_path / "c.yaml").symlink_to("gone.yaml")
    (tmp_path / "d.yaml").symlink_to("d.yaml")
    with pytest.raises(RulesError) as caught:
        load(tmp_path, {})
    assert [str(p) for p in caught.value.problems] == [
        "a.yaml:1:1: not a regular file",
        "b.yaml:1:1: not a regular file",
        "c.yaml:1:1: the file cannot be read: No such file or directory",
        "d.yaml:1:1: the file cannot be read: Too many levels of symbolic links",
    ]


def test_too_many_files(tmp_path: Path) -> None:
    for number in range(MOST_FILES + 1):
        (tmp_path / f"{number}.yaml").touch()
    with pytest.raises(RulesError) as caught:
        load(tmp_path, {})
    assert [p.message for p in caught.value.problems] == ["more than 1,000 files"]


def test_too_much_in_all(tmp_path: Path) -> None:
    """Each file is within its bounds."""
    (tmp_path / "a.yaml").write_text("version: 1\n")
    for number in range(MOST_VALUES // MOST_NODES + 1):
        (tmp_path / f"b{number:02}.yaml").write_text("a: [" + many("1,", 1) + "]\n")
    with pytest.raises(RulesError) as caught:
        load(tmp_path, {})
    assert str(caught.value.problems[-1]) == f"b10.yaml:1:1: up to here the files hold more than {MOST_VALUES:,} values"
    for number in range(LARGEST_FOLDER // ROOM + 1):
        (tmp_path / f"b{number:02}.yaml").write_text("#" * ROOM)
    with pytest.raises(RulesError) as caught:
        load(tmp_path, {})
    assert [p.message for p in caught.value.problems] == ["up to here the files are larger than 16 MiB in all"]


def test_no_files_and_no_folder(tmp_path: Path) -> None:
    for folder, message in ((tmp_path, "the folder holds no *.yaml file"),
                            (tmp_path / "no", "the rules folder cannot be read: No such file or directory")):
        with pytest.raises(RulesError) as caught:
            load(folder, {})
        assert [p.message for p in caught.value.problems] == [message]


PIECES = [*"abc 12:-?,[]{}&*!|>'\"%@`#~\\\t\n\r.=<+", "\n  ", "\n- ", ": ", "--- ", "...\n", "\\x", "\\u12", "\\U0011ffff",
          "&a ", "*a", "!!str ", "%YAML 1.2\n", "|2-\n", ">+9\n", "\ufeff", "\u2028", "\x85", "é", "null", "? "]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_text_is_a_tree_or_a_problem(text: str) -> None:
    tree, wrong = compose(text, "a.yaml")
    if tree is None and not wrong:
        assert YAML(typ="safe", pure=True).load(text) is None
    for problem in wrong:
        assert problem.line >= 1
        assert problem.column >= 1
