"""Figures as Markdown, ratios first."""

from collections.abc import Iterable, Sequence

from figures import Figures, Spread, Times
from memory import Memory

# What each contender is compared with: the same way in, without the gateway; and without any proxy.
RIVALS = {"mitmgate-reverse": "mitmdump-reverse", "mitmgate-direct": "mitmdump-reverse", "mitmgate-tls": "mitmdump-tls"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column text and the others numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def rival(name: str, case: Sequence[Figures]) -> Figures | None:
    """The contender of the same case that a ratio is formed with."""
    wanted = RIVALS.get(name, "-")
    return next((figures for figures in case if figures.contender in (wanted, f"{wanted}-streamed")), None)


def plain(name: str, case: Sequence[Figures]) -> Figures | None:
    """The upstream itself, reached as the contender reaches it."""
    wanted = "upstream-tls" if "-tls" in name else "upstream-plain"
    return next((figures for figures in case if figures.contender == wanted), None)


def cases(all_figures: Sequence[Figures]) -> dict[str, list[Figures]]:
    """The figures by case, in the order they were measured."""
    grouped: dict[str, list[Figures]] = {}
    for figures in all_figures:
        grouped.setdefault(figures.case, []).append(figures)
    return grouped


def ratios(all_figures: Sequence[Figures]) -> str:
    """mitmgate / mitmdump for each case: CPU and throughput."""
    rows = []
    for name, case in cases(all_figures).items():
        for figures in case:
            other = rival(figures.contender, case)
            if other and figures.cpu and other.cpu:
                rows.append([f"{name}: {figures.contender} / {other.contender}", ratio(figures.cpu, other.cpu),
                             ratio(figures.per_second, other.per_second)])
    return table(["mitmgate / mitmdump", "CPU", "per second"], rows) if rows else ""


def ratio(one: Spread, other: Spread) -> str:
    """A quotient with two decimals."""
    return f"{one.value / other.value:.2f}×" if other.value else "–"


def ranged(spread: Spread | None, digits: int) -> str:
    """A figure with the least and the greatest of its rounds."""
    if spread is None:
        return "–"
    return f"{spread.value:.{digits}f} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"


def added(mine: Times | None, base: Times | None) -> str:
    """Milliseconds at p50 / p99 beyond the upstream's own; the bare figure where that is not known."""
    if mine is None:
        return "–"
    if base is None:
        return f"{mine.p50 / 1000:.2f} / {mine.p99 / 1000:.2f} in all"
    return f"{(mine.p50 - base.p50) / 1000:+.2f} / {(mine.p99 - base.p99) / 1000:+.2f}"


def one_case(case: Sequence[Figures]) -> str:
    """The table of one case; the columns are those that have figures."""
    streams = any(figures.first for figures in case)
    head = ["contender", "count", "events/s" if streams else "per second",
            f"proxy CPU-s per 1,000 {'events' if streams else ''}".rstrip()]
    head += ["first event, added ms p50 / p99", "event under way, added ms p50 / p99", "gap stretched, ms p50 / p99"
             ] if streams else ["added latency, ms p50 / p99"]
    resumed = any(figures.resumed for figures in case)
    head += ["sessions resumed"] if resumed else []
    rows = []
    for figures in case:
        alone = plain(figures.contender, case)
        base = None if alone is figures else alone
        row = [figures.contender, str(figures.count), ranged(figures.per_second, 0), ranged(figures.cpu, 3)]
        if streams:
            row += [added(figures.first, base.first if base else None),
                    added(figures.underway, base.underway if base else None),
                    added(figures.stretch, None).removesuffix(" in all")]
        else:
            row.append(added(figures.latency, base.latency if base else None))
        rows.append(row + ([str(figures.resumed)] if resumed else []))
    return table(head, rows)


def long_run(memories: Sequence[Memory]) -> str:
    """The table of the long run."""
    def numbers(three: tuple[int, int, int]) -> str:
        return " → ".join(map(str, three))
    return table(
        ["contender", "requests", "streams", "connections", "MiB before → after", "peak", "MiB/min, last half",
         "descriptors", "threads"],
        [[m.contender, str(m.requests), str(m.streams), str(m.connections), f"{m.start:.1f} → {m.end:.1f}",
          f"{m.peak:.1f}", f"{m.slope:+.2f}", numbers(m.descriptors), numbers(m.threads)] for m in memories])


def complaints(all_figures: Sequence[Figures], memories: Sequence[Memory]) -> list[str]:
    """What makes figures worthless: requests that failed, and counts that do not agree."""
    found = [f"{f.case}: {f.contender}: {count} × {reason}"
             for f in all_figures for reason, count in f.failures.items()]
    found += [f"{f.case}: {f.contender}: the upstream served {f.unaccounted:+d} replies against what the clients got"
              for f in all_figures if f.unaccounted]
    found += [f"{f.case}: {f.contender}: {f.unrecorded:+d} replies without a record"
              for f in all_figures if f.unrecorded]
    return found + [f"memory: {m.contender}: {count} × {reason}"
                    for m in memories for reason, count in m.failures.items()]


def markdown(machine: str, all_figures: Sequence[Figures], memories: Sequence[Memory]) -> str:
    """The whole report."""
    parts = [machine, ratios(all_figures)]
    for name, case in cases(all_figures).items():
        parts += [f"### {name}", one_case(case)]
    if memories:
        parts += [f"### memory over {memories[0].seconds / 60:g} minutes", long_run(memories)]
    if wrong := complaints(all_figures, memories):
        parts += ["### Not to be trusted, because", "\n".join(f"- {line}" for line in wrong) + "\n"]
    return "\n".join(part for part in parts if part)
