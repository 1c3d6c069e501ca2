"""Letting go of much memory in small steps.

Python frees what hangs together in one go, under its lock: the rules of 2,000 routes hold up every request for 40 ms. Held
one by one and released from the root downwards, each object is freed alone, and other threads get their turns between.
"""

import gc
import types
from collections import deque
from collections.abc import Iterable

type Pieces = deque[object]

_SHARED_BY_ALL = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)


def pieces_of(root: object, keep: Iterable[object] = ()) -> Pieces:
    """Everything that hangs below `root`, itself left out, each after one that holds it; not `keep` and what hangs there."""
    seen = {id(root), *map(id, keep)}
    found: Pieces = deque()
    waiting: Pieces = deque((root,))
    while waiting:
        for each in gc.get_referents(waiting.popleft()):
            if id(each) not in seen and gc.is_tracked(each) and not isinstance(each, _SHARED_BY_ALL):
                seen.add(id(each))
                found.append(each)
                waiting.append(each)
    return found


def let_go(pieces: Pieces) -> None:
    """Free them in their order. For a thread of its own."""
    while pieces:
        pieces.popleft()
