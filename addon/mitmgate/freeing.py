"""Much memory at once, without holding up other threads.

Python's lock is held while it looks for cycles, longer the more objects there are, and while it frees what hangs together: the
rules of 2,000 routes would hold up every request for 50 ms each time. What a thread makes here is looked through in small
steps, and freed object by object.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import Final

_FEW: Final = (5_000, 1, 1_000_000)         # young objects for a collection; and none of the old ones at all
_PLAIN: Final = frozenset({dict, list, tuple, set, frozenset})
_OURS: Final = "mitmgate."
_ALONE: Final = 2                           # references: the variable, and the argument of the question


@contextlib.contextmanager
def small_collections() -> Iterator[None]:
    """Collections of young objects alone, a few at a time, each of one or two milliseconds."""
    usual = gc.get_threshold()
    gc.set_threshold(*_FEW)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def let_go(waste: list[object]) -> None:
    """Free these, and what they alone hold, object by object. For a thread that has time."""
    kinds: dict[type, bool] = {}
    while waste:
        each = waste.pop()
        if sys.getrefcount(each) <= _ALONE:
            waste += [inner for inner in gc.get_referents(each) if gc.is_tracked(inner) and _is_container(type(inner), kinds)]


def _is_container(kind: type, kinds: dict[type, bool]) -> bool:
    """What may hold much: containers and instances of our own classes."""
    found = kinds.get(kind)
    if found is None:
        found = kinds[kind] = kind in _PLAIN or (kind.__module__.startswith(_OURS) and not issubclass(kind, type))
    return found
