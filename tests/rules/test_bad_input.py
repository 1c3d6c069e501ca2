"""What editors, other systems and YAML 1.1 make of rules files: each is read as meant, or refused at its place."""

import os
import tempfile
import time
from pathlib import Path

import pytest
from written import problems, rules

from mitmgate.rules.files import RuleFile, rule_files
from mitmgate.rules.loader import load
from mitmgate.rules.positions import RulesError
from mitmgate.rules.schema import Rules

RULES = "version: 1\nproviders:\n  openai: {}\nroutes:\n- name: a\n  targets: [{provider: openai}]\n"


def read(folder: Path, content: bytes) -> Rules:
    (folder / "a.yaml").write_bytes(content)
    return load(folder, {}, ("openai",))


def wrong(folder: Path, content: bytes) -> list[str]:
    with pytest.raises(RulesError) as caught:
        read(folder, content)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(tmp_path: Path, newline: str, mark: str) -> None:
    text = (mark + RULES).replace("\n", newline)
    assert read(tmp_path, text.encode()).where["routes[0].targets"] == "a.yaml:6"
    assert wrong(tmp_path, (text + f"  retry: {{max: 9}}{newline}").encode()) == [
        "a.yaml:7:16: routes[0].retry.max: expected a whole number from 0 to 5, found 9"
    ]


def test_line_ends_of_one_file_may_differ(tmp_path: Path) -> None:
    text = RULES.replace("\n", "\r\n", 3)
    assert read(tmp_path, text.encode()).where["routes[0]"] == "a.yaml:5"


def test_folded_text_of_a_windows_file(tmp_path: Path) -> None:
    text = RULES + "  set:\n    a: |\n      x\n      y\n    b: >\n      x\n      y\n    c: 'x\n\n      y'\n"
    assert read(tmp_path, text.replace("\n", "\r\n").encode()).routes[0].force == {"a": "x\ny\n", "b": "x y\n", "c": "x\ny"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (RULES.encode("utf-16"), "1:1: the file is UTF-16: save it as UTF-8"),
        (RULES.encode("utf-16-le"), "1:2: the control character U+0000 is not allowed"),
        (b"version: 1\n# caf\xe9\n", "2:6: not UTF-8: save the file as UTF-8"),
        (b"version: 1\n\xff", "2:1: not UTF-8: save the file as UTF-8"),
        (b"version: 1\n# \x00\n", "2:3: the control character U+0000 is not allowed"),
        ("version: 1\n\ufeffaccess: open\n".encode(), '2:1: ["�access"]: unknown key; did you mean `access`?'),
    ],
)
def test_encodings(tmp_path: Path, content: bytes, expected: str) -> None:
    assert f"a.yaml:{expected}" in wrong(tmp_path, content)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\nproviders:\n\topenai: {}\n", "3:1: a tab: indent with spaces"),
        ("version: 1\nlimits:\n  \tdrain: 1s\n", "3:3: a tab: indent with spaces"),
        ("version:\t1\n", "1:9: a tab: indent with spaces"),
    ],
)
def test_tabs_that_indent(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, a=text) == [f"a.yaml:{expected}"]


def test_tabs_that_do_not(tmp_path: Path) -> None:
    text = RULES + "  set: {a: 'x\ty'} # a\tcomment\n"
    assert rules(tmp_path, a=text).routes[0].force == {"a": "x\ty"}


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "---\n", "---\n...\n", "null\n", "~", "\ufeff", "\r\n"])
def test_empty_files(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, a=text) == ["a.yaml:1:1: version: missing: write `version: 1`"]
    assert rules(tmp_path, b="version: 1\n").version == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("providers: {openai: {}, openai: {}}\n", "2:25: providers.openai: given twice, first at a.yaml:2:13"),
        ("providers: {openai: {}, 'openai': {}}\n", "2:25: providers.openai: given twice, first at a.yaml:2:13"),
        ("limits: {drain: 1s, \"dr\\x61in\": 1s}\n", "2:21: limits.drain: given twice, first at a.yaml:2:10"),
        ("limits: {}\nlimits: {}\n", "3:1: limits: given twice, first at a.yaml:2:1"),
        ("tunnel: {allow: [], allow: []}\n", "2:21: tunnel.allow: given twice, first at a.yaml:2:10"),
    ],
)
def test_a_key_given_twice(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, a="version: 1\n" + text) == [f"a.yaml:{expected}"]


@pytest.mark.parametrize("written", ["2024-10-21", "2024-10-21 10:00:00", "2001-12-14T21:59:43.10Z", "v1", "'1'"])
def test_what_yaml_1_1_takes_for_a_date_is_the_text(tmp_path: Path, written: str) -> None:
    loaded = rules(tmp_path, a=f"version: 1\nproviders:\n  openai: {{api_version: {written}}}\n")
    assert loaded.providers["openai"].api_version == written.strip("'")


@pytest.mark.parametrize("word", ["yes", "Yes", "YES", "no", "No", "on", "On", "off", "OFF", "y", "n"])
def test_what_yaml_1_1_takes_for_a_flag_is_text(tmp_path: Path, word: str) -> None:
    assert rules(tmp_path, a=RULES + f"  set: {{x: {word}}}\n").routes[0].force == {"x": word}
    assert problems(tmp_path, a=f"version: 1\nproviders: {{openai: {{disabled: {word}}}}}\n") == [
        f"a.yaml:2:32: providers.openai.disabled: expected true or false, found `{word}`"
    ]
    assert list(rules(tmp_path, a=f"version: 1\nproviders: {{{word}: {{base_url: 'https://x.y'}}}}\n").providers) == [word]


@pytest.mark.parametrize("path", ["../../key", "/etc/passwd", "schemas/../../key", "..", "a/..", "..\\key", "C:\\key"])
@pytest.mark.parametrize(
    "written",
    [
        "guardrails: {g: {check: schema_validation, schema: '%s'}}",
        "projects: {p: {endpoints: {e: {input_schema: '%s'}}}}",
        "projects: {p: {endpoints: {e: {output_schema: '%s'}}}}",
    ],
)
def test_paths_that_lead_out_of_the_folder(tmp_path: Path, path: str, written: str) -> None:
    [problem] = problems(tmp_path, a=f"version: 1\n{written % path}\n")
    assert problem.startswith(f"a.yaml:2:{written.index(chr(39)) + 1}: ")
    assert problem.endswith(f": expected a path inside the rules folder, such as schemas/answer.json, found `{path}`")


def test_names_of_files_are_no_paths(tmp_path: Path) -> None:
    """A message cannot be forged by the name of a file, and no name leads elsewhere."""
    (tmp_path / "a\n\x1b[31mb.yaml").write_text("- a\n")
    assert problems(tmp_path) == ["a��[31mb.yaml:1:1: expected a map of keys such as `routes:` at the top of the file"]


def test_a_file_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as name:     # pytest's own folder is closed to everybody but its owner
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "a.yaml").touch(mode=0o000)
        me = os.geteuid()
        if me == 0:
            os.seteuid(65534)               # root may read every file
        try:
            assert problems(folder) == ["a.yaml:1:1: the file cannot be read: Permission denied"]
        finally:
            os.seteuid(me)


def test_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    (tmp_path / "teams").mkdir()
    os.mkfifo(tmp_path / "teams" / "a.yaml")
    begun = time.monotonic()
    assert problems(tmp_path) == ["a.yaml:1:1: not a regular file", "teams/a.yaml:1:1: not a regular file"]
    assert time.monotonic() - begun < 5


def test_the_order_in_which_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    for name in ("b.yaml", "a.yaml", "teams/d.yaml", "teams/c.yaml", "A.yaml", "a.yml", "teams/x.txt"):
        (tmp_path / name).write_text("")
    found = [(file.name, file.team) for file in rule_files(tmp_path) if isinstance(file, RuleFile)]
    assert found == [("A.yaml", None), ("a.yaml", None), ("b.yaml", None), ("teams/c.yaml", "c"), ("teams/d.yaml", "d")]


def test_more_problems_than_anybody_reads(tmp_path: Path) -> None:
    unknown = "".join(f"x{number}: 1\n" for number in range(700))
    found = problems(tmp_path, a="version: 1\nroutes:\n" + "- {}\n" * 400, b="providers: {\n", c=unknown)
    assert len(found) == 1_001
    assert found[-1] == "c.yaml:600:1: there are more problems than 1,000"
