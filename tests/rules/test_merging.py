"""Several files as one document: maps merge, lists append in the order of the names."""

from pathlib import Path

import pytest
from written import problems, rules


def test_files_merge(tmp_path: Path) -> None:
    files = {
        "20-b": "providers: {groq: {}}\nroutes:\n- {name: second, targets: [{provider: openai}]}\nlimits: {drain: 1s}\n",
        "10-a": "version: 1\nroutes:\n\n- {name: first, targets: [{provider: groq}]}\nlimits: {upload: 1MiB}\n",
        "30-c": "providers:\n  openai:\nroutes:\n",
        "40-empty": "# nothing\n",
        "50-void": "",
        ".hidden": "version: [",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    loaded = rules(tmp_path)
    assert [route.name for route in loaded.routes] == ["first", "second"]
    assert sorted(loaded.providers) == ["groq", "openai"]
    assert (loaded.limits.upload, loaded.limits.drain) == (1 << 20, 1.0)
    assert loaded.where["routes[0]"] == "10-a.yaml:4"
    assert loaded.where["routes[1]"] == "20-b.yaml:3"
    assert loaded.where["providers.openai"] == "30-c.yaml:2"
    assert loaded.where["limits.drain"] == "20-b.yaml:4"


def test_only_files_directly_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "x.yaml").write_text("nonsense: [")
    (tmp_path / "notes.txt").write_text("nonsense: [")
    assert rules(tmp_path, a="version: 1\n").version == 1


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("version: 1\n", "b.yaml:1:1: version: given twice, first at a.yaml:1:1"),
        ("access: keys\n", "b.yaml:1:1: access: given twice, first at a.yaml:2:1"),
        ("providers:\n  openai: {region: eu}\n", "b.yaml:2:3: providers.openai: given twice, first at a.yaml:3:13"),
        ("models: {m: {targets: [{provider: openai}]}}\n", "b.yaml:1:10: models.m: given twice, first at a.yaml:4:10"),
        ("routes: [{name: r, targets: [{provider: openai}]}]\n",
         "b.yaml:1:17: routes[1].name: the name `r` is given twice, first at a.yaml:5:17"),
        ("limits: {drain: 1s}\n", "b.yaml:1:10: limits.drain: given twice, first at a.yaml:6:10"),
        ("routes: {}\n", "b.yaml:1:1: routes: given twice, first at a.yaml:5:1"),
    ],
)
def test_the_same_name_in_two_files(tmp_path: Path, second: str, expected: str) -> None:
    first = (
        "version: 1\naccess: open\nproviders: {openai: {}}\nmodels: {m: {targets: [{provider: openai}]}}\n"
        "routes: [{name: r, targets: [{provider: openai}]}]\nlimits: {drain: 2s}\n"
    )
    assert problems(tmp_path, a=first, b=second) == [expected]


def test_a_key_given_twice_in_each_of_two_files(tmp_path: Path) -> None:
    text = "routes: [{name: %s, name: x, targets: [{provider: openai}]}]\n"
    assert problems(tmp_path, a="version: 1\nproviders: {openai: }\n" + text % "r", b=text % "s") == [
        "a.yaml:3:20: routes[0].name: given twice, first at a.yaml:3:11",
        "b.yaml:1:20: routes[0].name: given twice, first at b.yaml:1:11",
    ]


def test_a_wrong_version_beside_a_broken_file(tmp_path: Path) -> None:
    assert problems(tmp_path, a="version: 2\n", b="routes: [\n") == [
        "a.yaml:1:10: version: expected 1, the only version there is, found 2",
        "b.yaml:2:1: the file ends where a value is expected: a list or map is not closed",
    ]
    assert len(problems(tmp_path, a="", b="routes: [\n", c="access: open\n")) == 1


def test_a_broken_file_does_not_blame_its_neighbours(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        a="version: 1\nproviders: [a\n",
        b="routes: [{name: r, targets: [{provider: openai}], retry: {max: 7}}]\n",
    )
    assert found == [
        "a.yaml:2:12: a list in brackets that is not closed, or holds text that must be in quotes",
        "b.yaml:1:64: routes[0].retry.max: expected a whole number from 0 to 5, found 7",
    ]
