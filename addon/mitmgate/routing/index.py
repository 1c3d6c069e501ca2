"""Which routes a request could take at all, without looking at most of them.

Theory of operation. A route that wants one of a few models, projects, hosts, header values or operations is put under
each of them, in the dimension where it has the fewest neighbours; one that wants nothing so definite is a candidate for
every request. A request looks itself up in each dimension, and what is found is tried in the order of the rules.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from mitmgate.globs import Globs
from mitmgate.routing.match import Asked, Match


class Bucket(NamedTuple):
    """`dimension` is model, model prefix, project, host, operation, …; `name` is of a header or tag."""

    dimension: str
    value: str
    name: str = ""


_PREFIX: Final = "model prefix"


class Index:
    """Of the `match:` of routes, in the order of the rules."""

    __slots__ = ("_always", "_buckets", "_headers", "_prefixes", "_tags")

    def __init__(self, matches: Sequence[Match]) -> None:
        choices = [list(_choices(match)) for match in matches]
        crowd = Counter(bucket for each in choices for buckets in each for bucket in buckets)
        self._buckets: dict[Bucket, list[int]] = defaultdict(list)
        self._always: list[int] = []
        for position, each in enumerate(choices):
            if not each:
                self._always.append(position)
                continue
            # Two patterns may begin alike, and then share a bucket.
            for bucket in dict.fromkeys(min(each, key=lambda buckets: max(crowd[bucket] for bucket in buckets))):
                self._buckets[bucket].append(position)
        self._buckets = dict(self._buckets)
        self._prefixes = tuple(sorted({len(bucket.value) for bucket in self._buckets if bucket.dimension == _PREFIX}))
        self._headers = tuple(sorted({bucket.name for bucket in self._buckets if bucket.dimension == "header"}))
        self._tags = tuple(sorted({bucket.name for bucket in self._buckets if bucket.dimension == "tag"}))

    def candidates(self, asked: Asked) -> Sequence[int]:
        """Positions of the routes that are worth a look, in the order of the rules; each that matches is among them."""
        found = [some for bucket in self._asked(asked) if (some := self._buckets.get(bucket))]
        if self._always:
            found.append(self._always)
        if len(found) == 1:
            return found[0]
        return sorted({position for some in found for position in some})

    def _asked(self, asked: Asked) -> Iterator[Bucket]:
        model = asked.model
        if model is not None:
            yield Bucket("model", model)
            for length in self._prefixes:
                if length <= len(model):
                    yield Bucket(_PREFIX, model[:length])
        yield Bucket("operation", asked.operation)
        yield Bucket("host", asked.host)
        yield Bucket("project", asked.project)
        if asked.tenant is not None:
            yield Bucket("tenant", asked.tenant)
        if asked.task is not None:
            yield Bucket("task", asked.task)
        for name in self._headers:
            if (value := asked.headers.get(name)) is not None:
                yield Bucket("header", value, name)
        for name in self._tags:
            if (value := asked.tags.get(name)) is not None:
                yield Bucket("tag", value, name)


def _choices(match: Match) -> Iterator[list[Bucket]]:
    """The ways to file one `match:`; each is the buckets of which a request must be in one, if it is to match."""
    if match.model is not None and all(glob.prefix for glob in match.model.patterns):
        prefixes = (Bucket(_PREFIX, glob.prefix) for glob in match.model.patterns)
        yield [*(Bucket("model", literal) for literal in match.model.literals), *prefixes]
    named: list[tuple[str, Globs | None]] = [
        ("project", match.scope), ("project", match.project), ("host", match.host), ("tenant", match.tenant),
        ("task", match.task),
    ]  # fmt: skip
    for dimension, globs in named:
        if globs is not None and not globs.patterns:
            yield [Bucket(dimension, literal) for literal in globs.literals]
    for dimension, pairs in (("header", match.header), ("tag", match.tag)):
        for name, globs in pairs:
            if not globs.patterns:
                yield [Bucket(dimension, literal, name) for literal in globs.literals]
    if match.operation:
        yield [Bucket("operation", operation) for operation in match.operation]
