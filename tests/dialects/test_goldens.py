"""Every golden case of every dialect; each stream also cut at every byte."""

from typing import Any

import pytest
from golden import FOLDER, ask_of, cases, codec, events_of, outcome, read

from mitmgate.sse import EventSplitter

DIALECTS = sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())
ALL = [(dialect, case) for dialect in DIALECTS for case in cases(dialect)]
STREAMS = [(dialect, case) for dialect, case in ALL if case["way"] == "provider.stream" and "frames" not in case]


def name(value: Any) -> str | None:
    return f"{value['way']}: {value['name']}" if isinstance(value, dict) else None


@pytest.mark.parametrize(("dialect", "case"), ALL, ids=name)
def test_a_golden(dialect: str, case: dict[str, Any]) -> None:
    assert case["source"], "where it is documented"
    assert outcome(dialect, case) == case["expected"]


@pytest.mark.parametrize(("dialect", "case"), STREAMS, ids=name)
def test_a_stream_cut_at_every_byte(dialect: str, case: dict[str, Any]) -> None:
    whole = b"".join(events_of(case))
    for cut in range(1, len(whole)):
        splitter = EventSplitter()
        events = [*splitter.feed(whole[:cut]), *splitter.feed(whole[cut:])]
        stream = codec(dialect, case).stream(ask_of(case, {"messages": [], "stream": True}))
        assert read(stream, events) == case["expected"], cut


@pytest.mark.parametrize("dialect", DIALECTS)
def test_names_are_given_once(dialect: str) -> None:
    names = [(case["way"], case["name"]) for case in cases(dialect)]
    assert len(names) == len(set(names))
