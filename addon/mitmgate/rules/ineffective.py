"""What is written and changes nothing, because of what stands beside it: sticky, weights, targets named twice."""

from collections.abc import Iterator

from mitmgate.rules import schema
from mitmgate.rules.positions import Path
from mitmgate.rules.remarks import Remark, served_by, servings


def ineffective(rules: schema.Rules) -> Iterator[Remark]:
    """See the module."""
    for path, serving in servings(rules):
        yield from _sticky(path, serving)
        yield from _weights(path, serving)
        yield from _twice(path, serving)


def _sticky(path: Path, serving: schema.Serving) -> Iterator[Remark]:
    if not serving.sticky:
        return
    if serving.strategy == "fallback":
        message = "does nothing with `strategy: fallback`, which tries the targets as they are listed"
        yield Remark((*path, "sticky"), message)
    elif len(serving.targets) == 1:
        yield Remark((*path, "sticky"), "does nothing: there is one target to stay at")


def _weights(path: Path, serving: schema.Serving) -> Iterator[Remark]:
    for place, target in served_by(path, serving):
        listed = place[-2] == "targets"
        written = target.model_fields_set
        if "weight" in written and listed and serving.strategy != "weighted":
            message = f"does nothing with `strategy: {serving.strategy}`: only `weighted` draws by weight"
            yield Remark((*place, "weight"), message)
        for key in ("weight", "priority"):
            if key in written and not listed:
                yield Remark((*place, key), "does nothing: what stands under `fallback` is tried as it is listed")


def _twice(path: Path, serving: schema.Serving) -> Iterator[Remark]:
    first: dict[tuple[str | None, ...], Path] = {}
    for place, target in served_by(path, serving):
        earlier = first.setdefault((target.provider, target.model, repr(target.force), repr(target.default)), place)
        if earlier is not place:
            key, index = earlier[-2:]
            yield Remark(place, f"the same target as {key}[{index}]: it is tried again where that one has failed")
