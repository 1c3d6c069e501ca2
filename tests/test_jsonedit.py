"""A member is put where it stands, and every other byte stays: checked against parsing, over objects of every shape."""

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.jsonedit import put_member

TABLE = [
    (b'{"model":"a"}', True, b'{"model":"b"}'),
    (b'{ "model" : "a" , "x" : 1.0 }', True, b'{ "model" : "b" , "x" : 1.0 }'),
    (b'{"x":{"model":"c"},"model":"a"}', True, b'{"x":{"model":"c"},"model":"b"}'),
    (b'{"x":[{"model":"c"}],"model":null}', True, b'{"x":[{"model":"c"}],"model":"b"}'),
    (b'{"x":"model","model":-1.5E+10}', True, b'{"x":"model","model":"b"}'),
    (rb'{"x":"\"model\": \"c\"","model":"\"a\\"}', True, rb'{"x":"\"model\": \"c\"","model":"b"}'),
    (rb'{"x\"model":"c","model":"a"}', True, rb'{"x\"model":"c","model":"b"}'),
    (b'{"x":"}]{[","model":true}', True, b'{"x":"}]{[","model":"b"}'),
    (b'{"model":{"a":1}}', True, None),
    (b'{"model":[1]}', True, None),
    (rb'{"mod\u0065l":"a"}', True, None),
    (b'{}', False, b'{"model":"b"}'),
    (b' {\n} ', False, b' {"model":"b"\n} '),
    (b'{"x":1}', False, b'{"model":"b","x":1}'),
    (b'\n{ "x":1}', False, b'\n{"model":"b", "x":1}'),
    (b'{"x":{"model":"c"}}', False, b'{"model":"b","x":{"model":"c"}}'),
    ('{"x":"é\u2028","model":"ü"}'.encode(), True, '{"x":"é\u2028","model":"b"}'.encode()),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "present", "expected"), TABLE)
def test_put_member(raw: bytes, present: bool, expected: bytes | None) -> None:
    assert put_member(raw, "model", "b", present=present) == expected


SPACE = st.sampled_from(["", "", " ", "\n", "\t \r\n"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["model", '"model"', '"model":', '\\"model\\":', "\\", "{", "}", '{"model":"x"}', "model\\"]
)
STRING = st.builds(lambda text, ascii: json.dumps(text, ensure_ascii=ascii), TEXT, st.booleans())
SCALAR = st.one_of(
    STRING,
    st.integers().map(str),
    st.integers(10**30, 10**60).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1.0", "-0", "1E+2", "0.10", "true", "false", "null"]),
)


def _joined(opening: str, items: list[str], spaces: list[str], closing: str) -> str:
    """The items with spacing from `spaces`, taken in turn."""
    padded = [f"{spaces[i % len(spaces)]}{item}{spaces[(i + 1) % len(spaces)]}" for i, item in enumerate(items)]
    return opening + (",".join(padded) or spaces[0]) + closing


SPACES = st.lists(SPACE, min_size=1, max_size=5)
NAME = STRING | st.just('"model"') | st.just('"models"') | st.just('"Model"')


def _members(values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """Members of an object, no name twice."""
    member = st.tuples(NAME, SPACE, SPACE, values)
    return st.lists(member, max_size=4, unique_by=lambda m: json.loads(m[0])).map(
        lambda members: [f"{name}{before}:{after}{value}" for name, before, after, value in members]
    )


VALUE = st.recursive(
    SCALAR,
    lambda inner: st.builds(_joined, st.just("["), st.lists(inner, max_size=3), SPACES, st.just("]"))
    | st.builds(_joined, st.just("{"), _members(inner), SPACES, st.just("}")),
    max_leaves=8,
)
MEMBERS = _members(VALUE).map(lambda members: [m for m in members if json.loads("{" + m + "}").keys() != {"model"}])
NEW = st.one_of(st.text(max_size=5), st.booleans(), st.none(), st.integers(-(2**53), 2**53), st.just({"a": [1]}))


@given(MEMBERS, MEMBERS, SCALAR, SPACES, SPACE, SPACE, NEW)
def test_a_member_is_replaced_where_it_stands(
    before: list[str], after: list[str], old: str, spaces: list[str], left: str, right: str, new: Any
) -> None:
    """The expected bytes are written out from the parts, so every byte outside the value is known."""
    names = {json.loads("{" + m + "}").popitem()[0] for m in before}
    after = [m for m in after if json.loads("{" + m + "}").popitem()[0] not in names]

    def raw(value: str) -> bytes:
        member = f'"model"{left}:{right}{value}'
        return (left + _joined("{", [*before, member, *after], spaces, "}") + right).encode()

    found = put_member(raw(old), "model", new, present=True)
    assert found == raw(orjson.dumps(new).decode())
    assert json.loads(found) == {**json.loads(raw(old)), "model": new}


@given(MEMBERS, SPACES, NEW)
def test_a_new_member_leaves_the_others_alone(members: list[str], spaces: list[str], new: Any) -> None:
    raw = _joined("{", members, spaces, "}").encode()
    found = put_member(raw, "model", new, present=False)
    assert found is not None
    assert json.loads(found) == {**json.loads(raw), "model": new}
    assert found.startswith(b'{"model":')
    assert found.endswith(raw[1:])


def _seconds(raw: bytes) -> float:
    began = time.process_time()
    found = put_member(raw, "model", "b", present=True)
    assert found is not None
    assert orjson.loads(found)["model"] == "b"
    return time.process_time() - began


@pytest.mark.parametrize("decoy", [b'{"model":"x"}', b'{"a":{"model":1}}', rb'"\"model\":"', rb'{"\"model":1}'])
def test_decoys_cost_no_more_than_reading_them(decoy: bytes) -> None:
    """A body full of nested members of the same name is searched once, not once for each: the event loop waits for it."""

    def raw(count: int) -> bytes:
        return b'{"messages":[' + b",".join([decoy] * count) + b'],"model":"a"}'

    # Twice the size may take twice as long, with room for a noisy machine; it takes four times as long if each is searched.
    once, twice = (min(_seconds(raw(count)) for _ in range(2)) for count in (1_000, 2_000))
    assert twice < 3 * once + 0.05
