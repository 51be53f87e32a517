"""A search with Optuna, validated and frozen before its first trial.

The start state of a search is in `outputs/sweeps/<id>/`: `search.json`, a copy of the folder
`conf`, and copies of the files that trials read from the folders of `--config-dir`, as `own/0`,
`own/1` and so on. All trials are composed from these copies. A repeated command that would change
any of it is refused.
"""

import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.data.atomic import write_text
from harness.run import costs, freeze
from harness.run.compose import Job, compose_one
from harness.run.conf import conf_path
from harness.run.existing import before_files_changed
from harness.run.judged import difference, judged_by, refusal
from harness.run.launcher_schema import ASHA, OptunaSweeper
from harness.run.limits import Limits
from harness.run.overrides import CommandLine, text_of
from harness.run.own_source import OwnFolder
from harness.run.search import pausing, space
from harness.run.search.space import Parameter
from harness.run.search.storage import FROZEN, Storage
from harness.run.search.storage import KEY as STORAGE
from harness.run.search.workers import Workers
from harness.runfolder import config as configuration
from harness.runfolder import keys, own_code
from harness.runfolder.about import RESERVED, About
from harness.runfolder.config import ConfigError
from harness.runfolder.objective import DEFAULT, KEY
from harness.runfolder.plan import load_plan, sweeps_folder
from harness.runfolder.schema import Config

OWN = "own"
DATA = "the data"
OWN_SOURCE = "the source of your own code"
SOURCE = "the source of data/, nn/ and training/"
FILES = "the digest of the frozen folders conf and --config-dir"
THE_SEEDS, THE_COSTS = "the seeds of each trial", "the further objectives"
# Keys that a repeated command may change.
FREE = ("outputs", "tracking.uri", "tracking.patience", "tracking.name", "threads")


@dataclass(frozen=True)
class Search:
    """A validated search.

    base: the configuration that trials change. own_names: the MODULE:NAME of all code of the user
    that a trial can use. about: its name, note and question, also from earlier commands. seeds: the
    seeds of a trial; empty for only that of `base`. costs: the further objectives; a trial has a
    value of each. limits: when it ends before it has all its trials.
    """

    id: str
    settings: OptunaSweeper
    fixed: tuple[str, ...]
    space: tuple[Parameter, ...]
    base: Config
    typed: tuple[str, ...]
    own_names: frozenset[str] = frozenset()
    about: About = About()
    seeds: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()
    limits: Limits = Limits()

    def own_source(self) -> str:
        """The digest of the user's source files as they are now. Raises `OwnCodeError`."""
        return own_code.digest(own_code.sources(self.own_names))

    @property
    def outputs(self) -> Path:
        """The folder of everything generated."""
        return Path(self.base.outputs)

    @property
    def folder(self) -> Path:
        """The folder of the frozen start state."""
        return sweeps_folder(self.outputs) / self.id

    def data(self) -> str:
        """The digest of the data that the search started with."""
        return str(json.loads((self.folder / FROZEN).read_text())[DATA])

    @property
    def own_folders(self) -> list[Path]:
        """The frozen folders of `--config-dir`; live ones if an earlier version kept no copies."""
        frozen = self.folder / OWN
        return [
            frozen / str(number) if frozen.is_dir() else live
            for number, live in enumerate(own_code.folders())
        ]

    @property
    def epochs(self) -> int:
        """The most epochs of a trial."""
        searched = (each for each in self.space if each.key.lstrip("+") == "epochs")
        return max([self.base.epochs, *(int(text) for each in searched for text in each.extremes)])

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which trials pause; empty if they do not pause.

        With several objectives they do not, because no order says which trials are hopeless.
        """
        if self.settings.pruner != ASHA or self.costs:
            return ()
        return pausing.rungs(self.settings.warmup_epochs, self.epochs)

    @property
    def storage(self) -> Storage:
        """The database of its trials."""
        return Storage(self.outputs, self.settings.storage)

    @cached_property
    def workers(self) -> Workers:
        """This command among those that work on the search."""
        return self.storage.workers(self.id)


def check(settings: OptunaSweeper, line: CommandLine, typed: list[str]) -> Search:
    """Validate everything that a search could try. Writes nothing. Raises `ValueError`."""
    if "-m" not in typed:
        raise ConfigError("hydra/sweeper=optuna: a search is a sweep; add -m before the overrides")
    if line.resume is not None or line.fresh:
        raise ConfigError(
            "to continue a search, repeat its command; to start a new one, set "
            "hydra.sweeper.study=NAME; leave out resume and fresh"
        )
    fixed, parameters, seeds = space.split(line.settings)
    first = [f"{parameter.key}={parameter.extremes[0]}" for parameter in parameters]
    own_names: set[str] = set()
    judged: dict[str, object] = {}
    least = math.inf
    for number, parameter in enumerate(parameters):
        for value in parameter.extremes:
            lines = [*fixed, *first]
            lines[len(fixed) + number] = f"{parameter.key}={value}"
            config = _check_one(lines, parameters)
            own_names |= config.own_names
            least = min(least, config.least_epochs)
            now = judged_by(config, line.costs)
            _refuse_unequal(parameter, judged, now)
            judged = now | judged
    for seed in seeds:
        _check_one([*fixed, *first, f"{space.SEED}={seed}"])
    common = [p.key for p in parameters if not keys.determines_result(p.key.lstrip("+"))]
    if common:
        raise ConfigError(
            f"{common[0]}: cannot be searched: it changes no result; give every trial the same"
        )
    if settings.study and RESERVED.match(settings.study):
        raise ConfigError(
            f"hydra.sweeper.study={settings.study}: has a special meaning when runs are "
            "selected; choose another name"
        )
    name = settings.study or keys.digest(sorted([*map(text_of, line.settings), *line.costs]), 10)
    base = compose_one([*fixed, *first, *(f"{space.SEED}={seed}" for seed in seeds[:1])])
    costs.check(line.costs, base)
    search = Search(
        name, settings, tuple(fixed), tuple(parameters), base, tuple(typed), frozenset(own_names),
        _about(Path(base.outputs), name, line.about), seeds,
        line.costs, line.limits,
    )  # fmt: skip
    _check_limit(search, int(least))
    return search


def _check_limit(search: Search, epochs: int) -> None:
    """Raise `ConfigError` if the first trial exceeds the limit. epochs: the fewest of a run."""
    pauses = search.rungs != () and search.rungs[0] < epochs  # with its first seed
    count = 1 if pauses else max(1, len(search.seeds))
    least = (search.rungs[0] if pauses else epochs) * count
    limit = search.limits.max_epochs
    if limit is not None and limit < least:
        seeds = f" of {count} seeds" if count > 1 else ""
        raise ConfigError(
            f"max_epochs={limit}: expected at least {least}, for the first trial{seeds}, without "
            "which a search finds nothing"
        )


def _about(outputs: Path, name: str, now: About) -> About:
    """The search's name, note and question, also from earlier commands. Raises `ConfigError`."""
    try:
        before = load_plan(outputs, name)
    except ValueError:  # it is new, or its plan is damaged, which is reported later
        return now
    try:
        finished = sum(run.is_finished for run in before.readable_runs(outputs))
        return before.about.then(now, finished)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _refuse_unequal(
    parameter: Parameter, first: Mapping[str, object], now: Mapping[str, object]
) -> None:
    """Raise `ConfigError` if the values of a parameter would not be judged on equal terms."""
    other = difference(first, now)
    if other is not None:
        changes = "" if parameter.key.lstrip("+") == other else f" it changes {other}, and"
        raise ConfigError(
            f"{parameter.key}: cannot be searched:{changes} {refusal(other)}; give one"
        )


def _check_one(lines: list[str], parameters: Sequence[Parameter] = ()) -> Config:
    """Validate a trial and return its configuration. parameters: those at an extreme value."""
    try:
        config = compose_one(lines)
    except ConfigError as error:
        if any(_must_be_whole(lines, parameter) for parameter in parameters):
            raise ConfigError(f"{error}; int(interval(...)) gives whole numbers") from None
        raise
    configuration.check(config)
    freeze.with_backend(Job("", {}, config))
    if config.dataset.num_val == 0 and config.objective == str(DEFAULT):
        raise ConfigError("dataset.num_val=0: a search needs validation examples to judge by")
    return config


def _must_be_whole(lines: list[str], parameter: Parameter) -> bool:
    """Whether a refused trial would be accepted if this interval gave whole numbers."""
    if parameter.choices or parameter.whole:
        return False
    pairs = [line.partition("=") for line in lines]
    try:
        compose_one(
            [
                f"{key}={int(float(value)) if key == parameter.key else value}"
                for key, _, value in pairs
            ]
        )
    except ConfigError:
        return False
    return True


def start(search: Search) -> dict[str, Any]:
    """Freeze the start state of a search, or compare it with the frozen one; returns it.

    Raises `ConfigError` if something has changed since.
    """
    now = _start_state(search)
    path = search.folder / FROZEN
    if not path.is_file():
        _write_start_state(search, now)
    try:
        before = {
            KEY: str(DEFAULT),
            THE_SEEDS: [],
            THE_COSTS: [],
        }  # earlier versions had no such keys
        before |= json.loads(path.read_text())
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: not the start state of a search ({error}); restore it from a copy, or start "
            "another search with hydra.sweeper.study=NAME"
        ) from error
    refuse_changes(search, before, now)
    return now


def refuse_changes(search: Search, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if the start state of the search has changed."""
    if before.get(OWN_SOURCE) == search.own_source():  # an earlier version kept one digest of all
        before = {**before, OWN_SOURCE: now.get(OWN_SOURCE)}
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"search {search.id}: {_change(key, before.get(key), now.get(key))}; a search "
                "cannot change once started: restore it, or start another with "
                "hydra.sweeper.study=NAME"
            )


def _change(key: str, before: object, now: object) -> str:
    """How a part of the start state has changed, in words."""
    if key == OWN_SOURCE and isinstance(before, dict) and isinstance(now, dict):
        return f"it started {before_files_changed(before, now)}"
    if key in (DATA, SOURCE, OWN_SOURCE, FILES):  # digests, which mean nothing to users
        verb = "have" if key == DATA else "has"
        return f"{key} {verb} changed since it started"
    was, is_now = ("were", "are") if key in (THE_SEEDS, THE_COSTS) else ("was", "is")
    return f"{key} {was} {before} when it started and {is_now} {now} now"


def state_elsewhere(search: Search, state: Mapping[str, Any]) -> dict[str, Any]:
    """The start state that commands with another folder `outputs` must share.

    It has a digest of the frozen files, because each folder `outputs` has its own copies of them.
    """
    files = sorted(
        (path.relative_to(search.folder).as_posix(), path.read_text())
        for name in ("conf", OWN)
        for path in (search.folder / name).rglob("*.yaml")
    )
    kept = {key: value for key, value in state.items() if key != STORAGE}
    return {**kept, FILES: keys.digest(files, 16)}


def _start_state(search: Search) -> dict[str, Any]:
    """Everything that must be the same whenever the search is continued."""
    prepared = freeze.prepare([freeze.with_backend(Job("", {}, search.base))])[0]
    settings = {k: v for k, v in asdict(search.settings).items() if k not in ("n_trials", "study")}
    state: dict[str, Any] = {
        **{f"hydra.sweeper.{key}": value for key, value in settings.items()},
        **{f"the space of {p.key}": asdict(p) for p in search.space},
        THE_SEEDS: list(search.seeds),
        THE_COSTS: list(search.costs),
        **configuration.leaves(search.base),
        DATA: prepared.data_digest,
        SOURCE: keys.source_digest(),
    }
    if search.own_names:
        sources = own_code.sources(search.own_names)
        state[OWN_SOURCE] = {each.path: each.syntax for each in sources}
    for key in FREE:
        del state[key]
    plain: dict[str, Any] = json.loads(json.dumps(state))  # as it will be read back
    return plain


def _write_start_state(search: Search, state: dict[str, Any]) -> None:
    """Write the folder of the search atomically."""
    search.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=search.folder.parent) as temporary:
        unfinished = Path(temporary) / search.id
        for source in conf_path().rglob("*.yaml"):  # not `copytree`, which copies file modes
            copy = unfinished / "conf" / source.relative_to(conf_path())
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        for number, folder in enumerate(own_code.folders()):
            frozen = unfinished / OWN / str(number)
            frozen.mkdir(parents=True)
            for source in OwnFolder.loaded:  # `check` loaded them
                if source.is_relative_to(folder):
                    copy = frozen / source.relative_to(folder)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, copy)
        write_text(unfinished / FROZEN, json.dumps(state, indent=1))
        try:
            unfinished.rename(search.folder)
        except OSError:
            if not (search.folder / FROZEN).is_file():
                raise  # unless another command has just created the same search
