"""Globs of the rules: `*` stands for any run of characters, `/` and `.` included, `?` for one. Linear in the text.

Not `fnmatch`, whose regular expressions backtrack, and not `[…]`, which no rule needs: model names hold brackets.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Glob:
    """One compiled pattern. `match` gives what the first `*` stood for (`$1`), "" if there is none, None if no match."""

    text: str
    pieces: tuple[str, ...]                 # the literal runs between the stars; a `?` is kept in them

    @classmethod
    def parse(cls, text: str) -> "Glob":
        """Compile `text`; runs of stars count as one."""
        pieces = [text.split("*")[0]]
        rest = text.split("*")[1:]
        for index, piece in enumerate(rest):
            if piece or index == len(rest) - 1:
                pieces.append(piece)
        return cls(text, tuple(pieces))

    @property
    def literal(self) -> bool:
        """Whether it names exactly one text."""
        return len(self.pieces) == 1 and "?" not in self.text

    @property
    def prefix(self) -> str:
        """The literal text that everything begins with that it matches."""
        return self.pieces[0].split("?")[0]

    def match(self, subject: str) -> str | None:
        """Compare the whole of `subject`, case counts."""
        first, *rest = self.pieces
        if not _at(subject, first, 0):
            return None
        if not rest:
            return "" if len(subject) == len(first) else None
        position = len(first)
        captured: str | None = None
        for piece in rest[:-1]:
            found = _find(subject, piece, position)
            if found < 0:
                return None
            captured = subject[position:found] if captured is None else captured
            position = found + len(piece)
        last = rest[-1]
        start = len(subject) - len(last)
        if start < position or not _at(subject, last, start):
            return None
        return subject[position:start] if captured is None else captured


def _at(subject: str, piece: str, position: int) -> bool:
    if "?" not in piece:
        return subject.startswith(piece, position)
    if position + len(piece) > len(subject):
        return False
    return all(p in ("?", s) for p, s in zip(piece, subject[position : position + len(piece)], strict=True))


def _find(subject: str, piece: str, start: int) -> int:
    if "?" not in piece:
        return subject.find(piece, start)
    return next((i for i in range(start, len(subject) - len(piece) + 1) if _at(subject, piece, i)), -1)


@dataclass(frozen=True, slots=True)
class Globs:
    """Any of several patterns: the literal ones in a set, the others in order."""

    literals: frozenset[str]
    patterns: tuple[Glob, ...]

    def __str__(self) -> str:
        return ", ".join((*sorted(self.literals), *(glob.text for glob in self.patterns)))

    @classmethod
    def parse(cls, texts: tuple[str, ...]) -> "Globs":
        """Compile each of `texts`."""
        globs = [Glob.parse(text) for text in texts]
        return cls(frozenset(g.text for g in globs if g.literal), tuple(g for g in globs if not g.literal))

    def match(self, subject: str) -> str | None:
        """`$1` of the first pattern that matches, None if none does."""
        if subject in self.literals:
            return ""
        for glob in self.patterns:
            if (captured := glob.match(subject)) is not None:
                return captured
        return None
