"""What conditions read of one request."""

from collections.abc import Mapping
from typing import Any, Final

import cel_expr_python.cel as cel

from mitmgate.conditions.condition import Condition
from mitmgate.conditions.fields import BODY, DEFAULTS, ENVIRONMENT

LARGEST_BODY: Final = 16 << 20              # bytes of a body whose lists and maps are converted: some 40 ms
MOST_VALUES: Final = 30_000                 # in them: each costs about a microsecond
MATCHED_BODY: Final = 256 << 10             # bytes of a body in whose lists and maps `matches` looks
MATCHED_VALUES: Final = 1_000               # in them: cel compiles the pattern anew for each
_SMALL_BODY: Final = 32 << 10               # bytes; it cannot hold too many


class Facts:
    """What conditions read of one request; converted at the first condition, and once."""

    __slots__ = ("_activation", "_around", "_document", "_read", "_size", "_too_large")

    def __init__(self, document: Mapping[str, Any] | None, size: int, around: Mapping[str, Any]) -> None:
        """`document`: the JSON body; `size`: its bytes; `around`: what is there of the fields of `AROUND`."""
        self._document = document or {}
        self._read = document is not None or size == 0      # else there is a body that nobody could look into
        self._size = size
        self._around = around
        self._activation: cel.Activation | None = None
        self._too_large: bool | None = None

    def hold(self, condition: Condition) -> bool | None:
        """Whether the condition holds; None where it cannot be said: it reads what this request does not have."""
        if condition.reads_large and condition.matches and self._is_too_long():
            return None
        if self._size > _SMALL_BODY and condition.reads_large and self._is_too_large():
            return None
        if self._activation is None:
            self._activation = ENVIRONMENT.Activation(data=self._values())
        try:
            value = condition.expression.eval(self._activation).value()
        except RuntimeError:                # the iteration budget, or text that is no Unicode
            return None
        return value if isinstance(value, bool) else None

    def _is_too_large(self) -> bool:
        if self._too_large is None:
            large = [value for name, value in self._document.items() if name in BODY and BODY[name].large]
            self._too_large = self._size > LARGEST_BODY or _more_than(MOST_VALUES, large)
        return self._too_large

    def _is_too_long(self) -> bool:
        """For regular expressions, which take far longer over each value and each character."""
        if self._size > MATCHED_BODY:
            return True
        return _more_than(MATCHED_VALUES, [value for name, value in self._document.items() if name in BODY])

    def _values(self) -> dict[str, Any]:
        document = self._document
        values: dict[str, Any] = {"request.bytes": self._size}
        if self._read:
            values["request.given"] = list(document)
            values.update((f"request.{name}", default) for name, default in DEFAULTS.items() if name not in document)
        for name in document.keys() & BODY.keys():
            if (value := BODY[name].take(document[name])) is not None:
                values[f"request.{name}"] = value
        values.update(self._around)         # the model of the path goes before the body's
        return values


def _more_than(most: int, values: list[Any]) -> bool:
    """Whether there are more values than `most` in these, however deep. Looks at no more than it must."""
    waiting = values
    while waiting:
        most -= len(waiting)
        if most < 0:
            return True
        inner: list[Any] = []
        for value in waiting:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            if len(inner) > most:
                return True
        waiting = inner
    return False
