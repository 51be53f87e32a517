"""A search with Optuna: what it may try, validated, and frozen before its first trial.

What a search began with stands in `outputs/sweeps/<id>/`: the folder `conf`, from which all its
trials are composed, and `search.json`; a repeated command that would change any of it is refused.
"""

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.data.atomic import write_text
from harness.run import compose as launch
from harness.run import freeze
from harness.run.compose import Job
from harness.run.launcher_schema import OptunaSweeper
from harness.run.search import space
from harness.run.search.space import Parameter
from harness.runfolder import config as configuration
from harness.runfolder import plan as sweep
from harness.runfolder.config import ConfigError
from harness.runfolder.schema import Config

FROZEN = "search.json"


@dataclass(frozen=True)
class Search:
    """A search that is validated and frozen. base: the configuration that trials change."""

    id: str
    settings: OptunaSweeper
    fixed: tuple[str, ...]
    space: tuple[Parameter, ...]
    base: Config
    typed: tuple[str, ...]

    @property
    def outputs(self) -> Path:
        """The folder for everything generated."""
        return Path(self.base.outputs)

    @property
    def folder(self) -> Path:
        """Where what it began with is frozen."""
        return sweep.folder_of(self.outputs) / self.id

    @cached_property
    def lock(self) -> FileLock:
        """What the one command holds that runs it; the operating system frees it with that."""
        return FileLock(self.folder / ".lock", timeout=0)


def check(
    settings: OptunaSweeper, overrides: list[str], typed: list[str], special: launch.CommandKeys
) -> Search:
    """Validate everything that a search could try. Writes nothing. Raises `ValueError`."""
    if "-m" not in typed:
        raise ConfigError("hydra/sweeper=optuna: a search is a sweep; add -m before the overrides")
    if special.resume is not None or special.fresh:
        raise ConfigError(
            "a search goes on by itself when its command is repeated, and one under another name, "
            "hydra.sweeper.study=NAME, begins anew: leave resume and fresh out"
        )
    fixed, parameters = space.part(overrides)
    first = [f"{parameter.key}={parameter.extremes[0]}" for parameter in parameters]
    for number, parameter in enumerate(parameters):
        for value in parameter.extremes:
            lines = [*fixed, *first]
            lines[len(fixed) + number] = f"{parameter.key}={value}"
            try:
                config = launch.composed(lines)
            except ConfigError as error:
                whole = "; int(interval(...)) gives whole numbers" if ".0" in value else ""
                raise ConfigError(f"{error}{whole}") from None
            configuration.check(config)
            freeze.with_backend(Job("", {}, config))
            if config.dataset.num_val == 0:
                raise ConfigError("dataset.num_val=0: a search needs validation images to judge by")
    common = [p.key for p in parameters if not sweep.determines_result(p.key)]
    if common:
        raise ConfigError(
            f"{common[0]}: cannot be searched, it changes no result; give every trial the same"
        )
    name = settings.study or sweep.digest(sorted(overrides), 10)
    base = launch.composed([*fixed, *first])
    return Search(name, settings, tuple(fixed), tuple(parameters), base, tuple(typed))


def begin(search: Search) -> None:
    """Freeze what the search begins with, or compare with what it began with before; lock it.

    Raises `ConfigError` when something has changed since, or another command runs it now.
    """
    prepared = freeze.prepare([freeze.with_backend(Job("", {}, search.base))])[0]
    settings = {k: v for k, v in asdict(search.settings).items() if k not in ("n_trials", "study")}
    now: dict[str, Any] = {
        **{f"hydra.sweeper.{key}": value for key, value in settings.items()},
        **{f"the space of {p.key}": asdict(p) for p in search.space},
        **configuration.leaves(search.base),
        "the data": prepared.dataset["sha256"],
        "the source of data/, nn/ and training/": sweep.source_digest(),
    }
    for key in ("outputs", "tracking.uri", "tracking.patience", "tracking.name", "threads"):
        del now[key]
    now = json.loads(json.dumps(now))  # as it will be read back
    path = search.folder / FROZEN
    if not path.is_file():
        search.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=search.folder.parent) as place:
            unfinished = Path(place) / search.id
            shutil.copytree(launch.conf_path(), unfinished / "conf")
            write_text(unfinished / FROZEN, json.dumps(now, indent=1))
            try:
                unfinished.rename(search.folder)
            except OSError:
                if not path.is_file():  # another command began the same search at this moment
                    raise
    try:
        search.lock.acquire()
    except Timeout:
        raise ConfigError(
            f"search {search.id}: another command runs it at this moment; let that end, or end it, "
            "and repeat this one to go on"
        ) from None
    before = json.loads(path.read_text())
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"search {search.id}: {key} was {before.get(key)} when it began and is "
                f"{now.get(key)} now; a search does not change: put it back, or begin another with "
                "hydra.sweeper.study=NAME"
            )
