"""One condition, compiled."""

import functools
from dataclasses import dataclass, field
from typing import Final

import cel_expr_python.cel as cel

from mitmgate.conditions.bounds import LONGEST, bound, reads_large
from mitmgate.conditions.fields import ENVIRONMENT
from mitmgate.conditions.tokens import tokens_of
from mitmgate.conditions.wording import plainer

_KEPT: Final = 2_048                        # compiled conditions that are kept by their text


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """One condition, compiled."""

    text: str
    expression: cel.Expression = field(repr=False)
    reads_large: bool                       # it may read lists or maps of the body, which are as large as that
    matches: bool = False                   # it compares with regular expressions

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Compile, once for each text. Raises ValueError whose message says what is wrong and where in the text."""
        return _parse(text)

    @classmethod
    def compiled(cls, text: str) -> "Condition":
        """`parse`, anew."""
        if len(text) > LONGEST:
            raise ValueError(f"the condition is longer than {LONGEST} characters: split the route")
        tokens = tokens_of(text)
        bound(tokens)
        try:
            expression = ENVIRONMENT.compile(text)
        except RuntimeError as error:
            raise ValueError(plainer(str(error), text)) from None
        kind = expression.return_type()
        if kind != cel.Type.BOOL:
            if any(word.text == "has" for word in tokens):
                raise ValueError('`has()` does not read fields here: write `"tools" in request.given`')
            raise ValueError(f"the condition gives {kind.name()}, not true or false")
        return cls(text, expression, reads_large(tokens), any(word.text == "matches" for word in tokens))


_parse: Final = functools.lru_cache(_KEPT)(Condition.compiled)
