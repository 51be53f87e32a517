"""The jobs of a command: each configuration composed with Hydra and validated.

Everything is composed and validated here, before anything is created. The results are frozen, so
editing `conf/` later cannot change a job that waits.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.run.composer import Composer, composer
from harness.run.grammar import MAX_VALUES, check_swept_once, short, sweep_values, tags
from harness.run.hydra_errors import one_line_errors
from harness.run.overrides import text_of
from harness.runfolder import config as configuration
from harness.runfolder import parts
from harness.runfolder.config import ConfigError
from harness.runfolder.keys import determines_result
from harness.runfolder.kinds import KINDS, SCRATCH, name_of
from harness.runfolder.parts import PartError
from harness.runfolder.schema import Config

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


@dataclass(frozen=True)
class Job:
    """One configuration of a command. swept: only the keys that vary, in the command's order."""

    name: str
    swept: dict[str, str]
    config: Config


def expand(overrides: "list[Override]", *, sweep: bool) -> list[Job]:
    """The jobs of a command, in Hydra's order: the last swept key changes fastest.

    Every job is composed and validated; jobs with the same configuration are one. Raises
    `ConfigError`, one line, for the first problem.
    """
    check_swept_once(overrides)
    choices = [choices_of(override, sweep=sweep) for override in overrides]
    swept = [override.key_or_group for override in overrides if override.is_sweep_override()]
    shown = {
        key: short([line.partition("=")[2] for _, line in lines])
        for key, lines in zip((each.key_or_group for each in overrides), choices, strict=True)
        if key in swept
    }
    count = math.prod(map(len, choices))
    if count > MAX_VALUES:
        raise ConfigError(f"these values give {count:,} jobs; expected at most {MAX_VALUES:,}")
    with composer() as compose:
        return different(_job(compose, each, shown) for each in itertools.product(*choices))


def different(jobs: Iterable[Job]) -> list[Job]:
    """The jobs; of those with the same configuration the first."""
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(repr(configuration.to_dict(job.config)), job)
    return list(found.values())


def in_job(error: ValueError, name: str) -> ConfigError:
    """What is wrong with one job of several, with the job's name."""
    return ConfigError(f"{error} (in the job {name})")


def choices_of(override: "Override", *, sweep: bool) -> list[tuple[str, str]]:
    """The key of an override with each of the overrides it stands for. Raises `ConfigError`."""
    key, text = override.key_or_group, text_of(override)
    if not override.is_sweep_override():
        return [(key, text)]
    if not sweep:
        raise ConfigError(f"{text}: several values are a sweep; add -m before the overrides")
    with one_line_errors(text):
        values = list(sweep_values(override))
    if not values:
        raise ConfigError(f"{text}: expected at least one value")
    if tags(override):
        raise ConfigError(
            f"{text}: tag() is for a search; add hydra/sweeper=optuna or leave it out"
        )
    return [(key, f"{override.get_key_element()}={value}") for value in values]


def _job(
    compose: Composer,
    combination: tuple[tuple[str, str], ...],
    shown: Mapping[str, Mapping[str, str]],
) -> Job:
    """The job of one combination of (key, override) pairs.

    shown: by swept key, how a name spells each value.
    """
    lines = [line for _, line in combination]
    varied = {key: line.split("=", 1)[1] for key, line in combination if key in shown}
    name = ",".join(f"{key}={shown[key][value]}" for key, value in varied.items())
    try:
        config = parsed(compose, lines)
    except ConfigError as error:
        if len(varied) < 2:
            raise
        raise in_job(error, name) from None
    return Job(name or name_of_run(combination), varied, config)


def name_of_run(combination: Iterable[tuple[str, str]]) -> str:
    """The overrides, except those that only say where and how to train and record a run.

    combination: pairs of a key and its override.
    """
    told = [line for key, line in combination
            if determines_result(key) or key.startswith("dataset.")]  # fmt: skip
    return ",".join(told) or "default"


def parsed(compose: Composer, lines: list[str]) -> Config:
    """The configuration that override lines give. Raises `ConfigError`."""
    content = compose(lines)
    _check_used(content, compose, lines)
    return configuration.parse(content)


def _check_used(content: dict[str, Any], compose: Composer, lines: list[str]) -> None:
    """Refuse settings that the chosen trainer, model or optimizer does not take.

    Raises `ConfigError`.
    """
    for each in KINDS:
        if name_of(each, content) is None:
            try:
                parts.check(each, content.get(each))
            except PartError as error:
                raise ConfigError(str(error)) from None
    unused = unused_keys({kind: str(name_of(kind, content)) for kind in KINDS})
    if not unused:
        return
    plain = compose([])
    typed = {line.lstrip("+").partition("=")[0].partition(".")[0] for line in lines}
    changed = [key for key in unused if content.get(key) != plain.get(key)]
    for key in [*(key for key in unused if key in typed and content.get(key)), *changed]:
        who, has = unused[key]
        what = f"it has {', '.join(has)}" if has else "it has no keys"
        raise ConfigError(f"{key}: {who} has no such key; {what}")


def unused_keys(names: Mapping[str, str]) -> dict[str, tuple[str, list[str]]]:
    """The keys of the root that the chosen parts do not take: for each, the part and what it has.

    names: of the chosen part of each kind.
    """
    unused = {}
    if names["trainer"] != SCRATCH:
        own = [f"trainer.{key.name}" for key in parts.keys("trainer", names["trainer"])]
        for key in configuration.scratch_keys():
            unused[key] = f"trainer={names['trainer']}", own
    else:
        for kind in KINDS.values():
            shared = set(kind.shared) - {"lr"}  # which every optimizer gets with each step
            taken = {key.name for key in parts.shared_keys(kind.name, names[kind.name])}
            own = [f"{kind.name}.{key.name}" for key in parts.keys(kind.name, names[kind.name])]
            for key in shared - taken:
                unused[key] = f"{kind.name}={names[kind.name]}", [*own, *sorted(taken)]
    return unused


def compose_one(
    lines: list[str], folder: Path | None = None, own: Sequence[Path] | None = None
) -> Config:
    """One configuration. folder, own: see `composer`. Raises `ConfigError`."""
    with composer(folder, own=own) as compose:
        return parsed(compose, lines)
