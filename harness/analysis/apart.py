"""Shorten the commands and names of listed runs to the words that tell them apart."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

COMMA = re.compile(r",(?=[\w.+~/@]+=)")  # between two overrides, not in a list of values
LONG = 24  # characters; shorter names stay
MORE = "…"  # stands for words that are left out


def commands(every: Sequence[Sequence[str]]) -> list[str]:
    """Each command as text; `…` replaces the words that all of them share, except `-m`."""
    common = set.intersection(*map(set, every)) - {"-m"} if len(every) > 1 else set()
    return [
        " ".join([*(word for word in words if word not in common), *([MORE] if common else [])])
        for words in every
    ]


def names(every: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of runs; in a long one, `…` replaces the overrides that all runs have.

    settings: all settings of each run. A name that is still long keeps only its rarest overrides:
    as many as are needed to tell it from every run that its full name tells it from.
    """
    words = [COMMA.split(name) if len(name) > LONG else [name] for name in every]
    return [
        name
        if len(its) == 1
        else _telling(its, [_alike(w, i, words, settings) for w in its], len(every))
        for i, (name, its) in enumerate(zip(every, words, strict=True))
    ]


def _alike(
    word: str, index: int, words: Sequence[Sequence[str]], settings: Sequence[Mapping[str, Any]]
) -> set[int]:
    """The runs whose settings match an override of this run, whether they typed it or not."""
    key = word.partition("=")[0].lstrip("+~")
    key = next((each for each in (key, f"{key}.name") if each in settings[index]), "")
    if not key:  # not a setting, such as `experiment`
        return {i for i, its in enumerate(words) if word in its}
    return {i for i, its in enumerate(settings) if its.get(key) == settings[index][key]}


def _telling(words: Sequence[str], alike: Sequence[set[int]], runs: int) -> str:
    """The name shortened to its telling words. alike: the runs that have each word."""
    kept = [i for i, others in enumerate(alike) if len(others) < runs]
    if len(",".join(words[i] for i in kept)) > LONG:
        rarest, kept, left = sorted(kept, key=lambda i: len(alike[i])), [], set(range(runs))
        for i in rarest:
            if not left <= alike[i]:
                kept.append(i)
                left &= alike[i]
    if len(kept) in (0, len(words)):
        return ",".join(words)
    return ",".join([*(words[i] for i in sorted(kept)), MORE])
