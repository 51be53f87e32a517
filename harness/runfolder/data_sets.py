"""Name the data sets of runs; only runs with the same data set are ranked together."""

from collections.abc import Mapping, Sequence
from typing import Any


def named(datasets: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each run's data set, the same for runs that can be ranked together.

    datasets: the data sets in the runs' create records; a missing field matches any value. Data
    sets with one name (a label, or e.g. `arrays`) differ if their numbers of test examples differ,
    or both their sources and their contents do; then the names say `arrays (b.npz, 180 test
    examples)`.
    """
    found = [
        (str(each.get("name", "")), source, int(each.get("test") or 0))
        for each, source in zip(datasets, _sources(datasets), strict=True)
    ]
    known: dict[str, tuple[list[str], list[int]]] = {}
    for name, source, count in found:
        sources, counts = known.setdefault(name, ([], []))
        if source and source not in sources:
            sources.append(source)
        if count and count not in counts:
            counts.append(count)
    words = []
    for name, source, count in found:
        sources, counts = known[name]
        parts = [source or sources[0]] if len(sources) > 1 else []
        parts += [f"{count or counts[0]:,} test examples"] if len(counts) > 1 else []
        words.append(f"{name} ({', '.join(parts)})" if parts else name)
    return words


def _sources(datasets: Sequence[Mapping[str, Any]]) -> list[str]:
    """The source of each, the same for copies with equal content; empty if unknown."""
    first: dict[tuple[str, str], str] = {}
    sources = []
    for number, each in enumerate(datasets):
        source = str(each.get("source", ""))
        content = str(each.get("sha256") or f"unknown {number}"), str(each.get("name", ""))
        sources.append(first.setdefault(content, source) or source)
    return sources
