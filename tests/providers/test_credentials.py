"""Secrets: a file that is replaced, a value that is rejected, several of which any works. The clock is held still."""

import os
from pathlib import Path

import pytest

from mitmgate.exchange import Credential
from mitmgate.providers.credentials import AnyCredential, FileCredential, FixedCredential


class Hand:
    """A clock's hand, moved by the test; seconds."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    write(path, "first", 1)
    return path


def write(path: Path, text: str, age: int) -> None:
    """Put `text` there as an operator's tool does: a new file in the old one's place; `age` orders modification times."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    os.utime(fresh, (age, age))
    fresh.replace(path)


def test_a_fixed_value() -> None:
    credential = FixedCredential("sk-secret")
    assert credential.secret() == "sk-secret"
    credential.rejected("sk-secret")
    assert credential.secret() == "sk-secret"
    assert FixedCredential("").secret() is None


def test_no_credential_shows_itself(path: Path) -> None:
    several = AnyCredential([FixedCredential("sk-secret"), FileCredential(path)])
    for credential in (FixedCredential("sk-secret"), FileCredential(path), several):
        assert "sk-secret" not in f"{credential!r} {credential}"
        assert "first" not in f"{credential!r} {credential}"


@pytest.mark.parametrize("text", ["key\n", "  key\t\r\n", "\nkey", "key"])
def test_white_space_around_a_files_secret_does_not_count(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    assert FileCredential(path).secret() == "key"


def test_a_file_is_read_again_when_it_changed_and_a_second_passed(path: Path, hand: Hand) -> None:
    credential = FileCredential(path, hand)
    write(path, "second", 2)
    assert credential.secret() == "first"
    hand.at += 0.9
    assert credential.secret() == "first"
    hand.at += 0.2
    assert credential.secret() == "second"


def test_a_rejected_file_is_read_at_once(path: Path, hand: Hand) -> None:
    credential = FileCredential(path, hand)
    write(path, "second", 2)
    credential.rejected("first")
    assert credential.secret() == "second"


def test_a_rejected_file_is_read_even_if_its_time_did_not_change(path: Path, hand: Hand) -> None:
    """Written in place within the resolution of the file system's clock."""
    credential = FileCredential(path, hand)
    stat = path.stat()
    path.write_text("second", encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    hand.at += 2
    assert credential.secret() == "first"
    credential.rejected("first")
    assert credential.secret() == "second"


@pytest.mark.parametrize("damage", ["gone", "not UTF-8", "a folder"])
def test_the_last_good_secret_stays_while_the_file_cannot_be_read(path: Path, hand: Hand, damage: str) -> None:
    credential = FileCredential(path, hand)
    path.unlink()
    if damage == "not UTF-8":
        path.write_bytes(b"\xff\xfe")
    if damage == "a folder":
        path.mkdir()
    hand.at += 2
    assert credential.secret() == "first"
    credential.rejected("first")
    assert credential.secret() == "first"
    if damage == "a folder":
        path.rmdir()
    write(path, "second", 3)
    hand.at += 2
    assert credential.secret() == "second"


def test_a_file_that_comes_later_is_found(tmp_path: Path, hand: Hand) -> None:
    credential = FileCredential(tmp_path / "late", hand)
    assert credential.secret() is None
    write(tmp_path / "late", "there", 1)
    assert credential.secret() is None
    hand.at += 1
    assert credential.secret() == "there"


def test_an_emptied_file_has_no_secret(path: Path, hand: Hand) -> None:
    credential = FileCredential(path, hand)
    write(path, " \n", 2)
    hand.at += 1
    assert credential.secret() is None


def several(*values: str) -> AnyCredential:
    made: list[Credential] = [FixedCredential(value) for value in values]
    return AnyCredential(made)


def test_of_several_the_first_that_has_a_value_is_taken_and_kept() -> None:
    credential = several("", "b", "c")
    assert [credential.secret() for _ in range(3)] == ["b", "b", "b"]
    assert several("", "").secret() is None


def test_a_rejected_one_gives_way_to_the_next_and_round_again() -> None:
    credential = several("a", "b", "c")
    sent = []
    for _ in range(4):
        secret = credential.secret()
        assert secret is not None
        sent.append(secret)
        credential.rejected(secret)
    assert sent == ["a", "b", "c", "a"]


def test_many_rejections_of_one_secret_turn_once() -> None:
    """Fifty calls that were under way with the old key come back with 401: the new one must not be turned away from."""
    credential = several("old", "new")
    for _ in range(50):
        credential.rejected("old")
    assert credential.secret() == "new"


def test_a_file_of_several_that_was_replaced_stays_the_choice(path: Path, hand: Hand) -> None:
    credential = AnyCredential([FileCredential(path, hand), FixedCredential("other")])
    assert credential.secret() == "first"
    write(path, "second", 2)
    credential.rejected("first")
    assert credential.secret() == "second"
    credential.rejected("second")
    assert credential.secret() == "other"
