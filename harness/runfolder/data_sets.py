"""Which runs have the same data set: only they are ranked together."""

from collections.abc import Mapping, Sequence
from typing import Any


def named(datasets: Sequence[Mapping[str, Any]]) -> list[str]:
    """The data set of each run in words, the same for runs that can be ranked together.

    datasets: of the runs' create records; what is not in one may be anything. Data sets with one
    name (the label, or such as `arrays`) are two if the numbers of test examples differ, or both
    where they are from and what they contain: `arrays`, or `arrays (b.npz, 180 test examples)`.
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
    """Where each is from; the same for copies with the same content. Empty if unknown."""
    first: dict[tuple[str, str], str] = {}
    sources = []
    for number, each in enumerate(datasets):
        source = str(each.get("source", ""))
        content = str(each.get("sha256") or f"unknown {number}"), str(each.get("name", ""))
        sources.append(first.setdefault(content, source) or source)
    return sources
