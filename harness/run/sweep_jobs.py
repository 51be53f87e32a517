"""Expand the blocks of a sweep file into jobs, without the excluded ones."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.run import overrides as parsing
from harness.run.compose import Job, choices_of, in_job, name_of_run, parsed
from harness.run.composer import Composer, composer
from harness.run.grammar import MAX_VALUES, check_swept_once, short
from harness.run.sweep_file import Block, Choice, read
from harness.runfolder import config as configuration
from harness.runfolder.config import ConfigError, Leaf
from harness.runfolder.optional import warn
from harness.runfolder.schema import Config

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

NONE = "-"  # the value of a key that a job does not have


def expand(name: str, overrides: "list[Override]") -> list[Job]:
    """The jobs of `sweep=NAME` with these overrides, each validated as `configuration.check` does.

    Raises `ValueError`, one line.
    """
    file = read(name)
    check_swept_once(overrides)
    typed = [choices_of(override, sweep=True) for override in overrides]
    typed_keys = {override.key_or_group for override in overrides}
    grids = [
        [*(each for key, each in block.grid.items() if key not in typed_keys), *typed]
        for block in file.blocks
    ]
    count = sum(math.prod(map(len, grid)) for grid in grids)
    if count > MAX_VALUES:
        raise ConfigError(f"{file.path}: {count:,} jobs; expected at most {MAX_VALUES:,}")
    exclusions = [_Exclusion(entry) for entry in file.exclude]
    found: dict[str, tuple[tuple[Choice, ...], Config]] = {}
    with composer() as compose:
        for block, grid in zip(file.blocks, grids, strict=True):
            for combination in itertools.product(*grid):
                config = _config(compose, block.place, combination, typed_keys, exclusions)
                if config is not None:
                    found.setdefault(configuration.to_yaml(config), (combination, config))
    if not found:
        raise ConfigError(f"{file.path}: exclude leaves no job; expected at least one")
    for exclusion in exclusions:
        if not exclusion.count:
            warn(exclusion.place, "matches no job")
    return _named(list(found.values()))


def _config(
    compose: Composer,
    place: str,
    combination: tuple[Choice, ...],
    typed_keys: set[str],
    exclusions: "list[_Exclusion]",
) -> Config | None:
    """The validated configuration of a combination; None when it is excluded."""
    chosen = {key: _text(line) for key, line in combination}
    # Before composing: a combination may be excluded because it is not valid.
    if sum(each.matches(chosen.get) for each in exclusions):  # not `any`: each counts its matches
        return None
    try:
        config = parsed(compose, [line for _, line in combination])
        if sum(each.matches(lambda key: _value(key, chosen, config)) for each in exclusions):
            return None
        configuration.check(config)
    except ValueError as error:
        if str(error).partition("=")[0] in typed_keys:
            raise
        job = ",".join(line for key, line in combination if key not in typed_keys)
        raise in_job(ConfigError(f"{place}: {error}"), job) from None
    return config


class _Exclusion:
    """An entry of `exclude`. count: how many combinations it matched."""

    def __init__(self, entry: Block) -> None:
        self.place, self.count = entry.place, 0
        self._values = {
            key: [_parsed(_text(line)) for _, line in choices]
            for key, choices in entry.grid.items()
        }

    def matches(self, value_of: Callable[[str], str | None]) -> bool:
        """Whether all keys match. value_of: the value of a key as text, None if not known."""
        texts = {key: value_of(key) for key in self._values}
        is_match = all(
            text is not None and _parsed(text) in self._values[key] for key, text in texts.items()
        )
        self.count += is_match
        return is_match


def _named(found: list[tuple[tuple[Choice, ...], Config]]) -> list[Job]:
    """The jobs, each with its value of every key that varies among them.

    A job's name has only the keys that its own block or the command line gives.
    """
    keys = _ordered(combination for combination, _ in found)
    chosen = [{key: _text(line) for key, line in combination} for combination, _ in found]
    rows = [
        {key: _value(key, own, config) or NONE for key in keys}
        for own, (_, config) in zip(chosen, found, strict=True)
    ]
    varying = [key for key in keys if any(_parsed(r[key]) != _parsed(rows[0][key]) for r in rows)]
    shown = {key: short([own[key] for own in chosen if key in own]) for key in varying}
    jobs = []
    for own, row, (combination, config) in zip(chosen, rows, found, strict=True):
        lines = [f"{key}={shown[key][own[key]]}" for key in varying if key in own]
        name = ",".join(lines) or name_of_run(combination)
        jobs.append(Job(name, {key: row[key] for key in varying}, config))
    return jobs


def _ordered(combinations: Iterable[tuple[Choice, ...]]) -> list[str]:
    """The keys of all combinations; a new key goes before the known key that follows it."""
    keys: list[str] = []
    for combination in combinations:
        at = len(keys)
        for key, _ in reversed(combination):
            if key in keys:
                at = keys.index(key)
            else:
                keys.insert(at, key)
    return keys


def _value(key: str, chosen: Mapping[str, str], config: Config) -> str | None:
    """A job's value of a key as text: as chosen, else as configured; None if it has none."""
    if key in chosen:
        return chosen[key]
    leaves = configuration.leaves(config)
    known = next((each for each in (key, f"{key}.name") if each in leaves), None)
    return None if known is None else _spelled(leaves[known])


def _spelled(leaf: Leaf) -> str:
    if isinstance(leaf, bool):
        return str(leaf).lower()
    if isinstance(leaf, float) and leaf.is_integer():
        return f"{leaf:.0f}"
    return "null" if leaf is None else str(leaf)


def _text(line: str) -> str:
    return line.partition("=")[2]


def _parsed(text: str) -> Any:
    """A value as Hydra's grammar reads it, so that 0.1 equals 0.10."""
    try:
        (override,) = parsing.parse_each([f"value={text}"])
    except ConfigError:  # a text that would need quotes
        return text
    return override.value()
