"""Files made to hurt: each is answered within a second (THREATS, row 25)."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mitmgate.rules.files import LARGEST, MOST_FILES
from mitmgate.rules.loader import load
from mitmgate.rules.nodes import compose
from mitmgate.rules.positions import RulesError

# CPU seconds of this thread, the best of `TURNS`: a busy neighbour on the same core slows a turn, it never speeds one up.
BOUND = 1.0
TURNS = 3

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)
)
ROOM = LARGEST - 32

TOO_MUCH = {
    "aliases": (BOMB, "5:8: e[0]: aliases repeat more than 10,000 values"),
    "deep aliases": (
        "a: &a [[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]\nb: [[[[[[[[[[[[[[[[*a]]]]]]]]]]]]]]]]\n",
        "2:20: b" + "[0]" * 16 + ": more than 32 levels deep",
    ),
    "size": ("a: " + "x" * LARGEST, "1:1: the file is larger than 256 KiB: split it"),
    "five MiB": ("#" * (5 << 20), "1:1: the file is larger than 256 KiB: split it"),
    "open brackets": ("[" * ROOM, "1:34: more than 32 levels deep"),
    "open braces": ("{a: " * (ROOM // 4), "1:133: more than 32 levels deep"),
    "dashes": ("- " * (ROOM // 2), "1:65: " + "[0]" * 32 + ": more than 32 levels deep"),
    "indents": (
        "\n".join(" " * i + "a:" for i in range(700)), "32:32: " + ".".join("a" * 31) + ": more than 32 levels deep"
    ),
    "values": ("a: [" + "1," * (ROOM // 2) + "]", "1:29999: a[14997]: more than 15,000 values in one file: split it"),
    "tags": ("%TAG !a! x\n" * (ROOM // 11), "2:1: tags (`!…`) are not allowed: write the value alone"),
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
    "lines": "a:\n" + "  x\n" * (ROOM // 4),
    "blank lines": "\n" * ROOM,
    "comments": "#\n" * (ROOM // 2),
    "single values": "routes: [" + "1," * 14_000 + "]",
    "values and words": "routes: [" + ("1,") * 14_000 + "]\na: " + "x " * ((ROOM - 28_100) // 2),
    "unknown keys": "".join(f"key{i}: 1\n" for i in range(7_000)),
    "the same key": "a: 1\n" * 7_400,
    "anchors": "a: [" + ",".join(f"&a{i} 1" for i in range(14_000)) + "]",
    "escapes": 'a: "' + "\\n" * (ROOM // 2) + '"',
    "folded": "a: >\n" + "  x y\n\n" * (ROOM // 7),
    "providers": "version: 1\nproviders:\n" + "".join(f"  prov{i}x: {{}}\n" for i in range(5_000)),
    "unknown providers": "version: 1\nproviders:\n"
    + "".join(f"  p{i}: {{base_url: https://x.y}}\n" for i in range(1_000))
    + "routes:\n"
    + "".join(f"  - {{name: r{i}, targets: [{{provider: q{i}}}]}}\n" for i in range(1_300)),
    "big environment": "version: 1\nintercept: [" + ",".join(["'${BIG}'"] * 14_000) + "]",
}


def problems(folder: Path, text: str) -> list[str]:
    (folder / "a.yaml").write_text(text)
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
    assert problems(tmp_path, SLOW[name])


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
