"""YAML 1.2 as the rules read it, with the surprises of editors and of YAML 1.1."""

from pathlib import Path

import pytest
from written import problems, rules


def test_windows_files(tmp_path: Path) -> None:
    text = "\ufeffversion: 1\r\nproviders:\r\n  openai: {}\r\nroutes:\r\n- name: a\r\n  targets: [{provider: openai}]\r\n"
    assert rules(tmp_path, a=text).where["routes[0]"] == "a.yaml:5"
    assert problems(tmp_path, a=text + "  stratgy: x\r\n") == [
        "a.yaml:7:3: routes[0].stratgy: unknown key; did you mean `strategy`?"
    ]


def test_aliases_are_allowed_in_moderation(tmp_path: Path) -> None:
    loaded = rules(tmp_path, a="""\
version: 1
providers: {openai: }
routes:
- {name: a, targets: &both [{provider: openai, model: x}], timeout: &slow {total: 1h}}
- {name: b, targets: *both, timeout: *slow}
""")
    assert loaded.routes[1].targets == loaded.routes[0].targets
    assert loaded.routes[1].timeout.total == 3600.0


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"), ("on", "on"), ("NO", "NO"), ("2024-10-21", "2024-10-21"), ("12:30:45", "12:30:45"), ("1_000", "1_000"),
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("~", None),
        ("Null", None), ("True", True), ("FALSE", False), ("'1'", "1"), ('"null"', "null"), ("=", "="), ("", None),
        ("18446744073709551615", 2**64 - 1), ("nan", "nan"), ("0b1", "0b1"), ("1.", 1.0), (".", "."),
    ],
)
def test_scalars_follow_yaml_1_2(tmp_path: Path, written: str, value: object) -> None:
    text = (
        "version: 1\nproviders: {openai: }\nroutes:\n- name: a\n  targets: [{provider: openai}]\n"
        f"  set:\n    x: {written}\n"
    )
    found = rules(tmp_path, a=text).routes[0].force["x"]
    assert found == value
    assert type(found) is type(value)
