"""The study of a search: Optuna's record of its trials, its sampler and its pruner."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from harness.runfolder.config import ConfigError
from harness.runfolder.objective import Objective

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

    from harness.run.search.search import Search

DATABASE = "optuna.db"
ERROR = "error"  # of a trial: why it failed
DRAWN = "drawn"  # the file with the digest of the trials in the plots


def check_database(outputs: Path) -> None:
    """Raise `ConfigError` if `outputs/optuna.db` is there and damaged."""
    path = outputs.resolve() / DATABASE
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=60)) as opened:
            problem = str(opened.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        problem = str(error)
    if problem != "ok":
        raise ConfigError(_unusable(path, problem))


def _unusable(path: Path, problem: str) -> str:
    return (
        f"{path}: not a usable record of trials ({problem}); move it away and repeat the command: "
        "it starts its trials again, and those with the values of a finished run take its result"
    )


def failures() -> tuple[type[Exception], ...]:
    """The exceptions of a record that cannot be read or written: the database, a journal."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    return ValueError, OptunaError, SQLAlchemyError


def rename(outputs: Path, before: str, after: str) -> None:
    """Give a study another name, in place of one that has it; nothing to do where there is none."""
    import optuna

    path = outputs.resolve() / DATABASE
    if not path.is_file():
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with FileLock(f"{path}.lock", timeout=60):
        storage = _storage(path)
        names = optuna.get_all_study_names(storage)
        if before not in names:
            return
        if after in names:
            optuna.delete_study(study_name=after, storage=storage)
        optuna.copy_study(
            from_study_name=before, from_storage=storage, to_storage=storage, to_study_name=after
        )
        optuna.delete_study(study_name=before, storage=storage)


def forget(outputs: Path, name: str) -> None:
    """Delete a study; nothing to do where there is none."""
    import optuna

    path = outputs.resolve() / DATABASE
    if path.is_file():
        with FileLock(f"{path}.lock", timeout=60):
            storage = _storage(path)
            if name in optuna.get_all_study_names(storage):
                optuna.delete_study(study_name=name, storage=storage)


def open_study(search: "Search") -> "Study":
    """The study in `outputs/optuna.db`, with the sampler and the pruner of the settings.

    Raises `ConfigError` if the file is damaged.
    """
    import optuna
    from optuna import pruners, samplers

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings, epochs = search.settings, search.base.epochs
    objective = Objective.parse(search.base.objective)
    path = search.outputs.resolve() / DATABASE
    with FileLock(f"{path}.lock", timeout=60):  # two commands may create it at the same time
        try:
            study = optuna.create_study(
                storage=_storage(path),
                study_name=search.id,
                direction="maximize" if objective.is_max else "minimize",
                load_if_exists=True,
            )
            known = len(study.trials)
        except failures() as error:
            raise ConfigError(_unusable(path, str(error).splitlines()[0])) from error
    # A sampler restarted from the same seed would repeat its first proposals.
    seed = settings.seed + known
    startup, warmup = settings.startup_trials, settings.warmup_epochs
    match settings.sampler:
        case "tpe":
            study.sampler = samplers.TPESampler(seed=seed, n_startup_trials=startup)
        case "random":
            study.sampler = samplers.RandomSampler(seed=seed)
        case "qmc":
            study.sampler = samplers.QMCSampler(
                seed=settings.seed, scramble=True, warn_independent_sampling=False
            )
    first = max(1, warmup)
    match settings.pruner:
        case "none":
            study.pruner = pruners.NopPruner()
        case "median":
            study.pruner = pruners.MedianPruner(startup, warmup)
        case "halving":
            study.pruner = pruners.SuccessiveHalvingPruner(first, reduction_factor=3)
        case "hyperband":
            study.pruner = pruners.HyperbandPruner(first, max(first, epochs), reduction_factor=3)
    return study


def _storage(path: Path) -> "RDBStorage":
    """Optuna's storage in one SQLite file.

    Optuna takes a waiting trial with SELECT FOR UPDATE, which SQLite ignores: two threads or
    commands might take the same trial. They ask in turns (`Workers.turn`).
    """
    from optuna.storages import RDBStorage

    path.touch()  # SQLite itself would not let the group write
    uri = f"sqlite:///{path.as_posix()}"
    return RDBStorage(uri, engine_kwargs={"connect_args": {"timeout": 60}})


def ended(study: "Study") -> Sequence["FrozenTrial"]:
    """The trials that count toward the total: finished, pruned or failed; not interrupted ones."""
    from optuna.trial import TrialState

    done = (TrialState.COMPLETE, TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if t.state in done or ERROR in t.user_attrs]


def best(outputs: Path, name: str, count: int) -> list[dict[str, str]]:
    """The settings of the best finished trials of a study, best first, each value as it is typed.

    Raises `ConfigError` if there is no such study.
    """
    import optuna
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = outputs.resolve() / DATABASE
    try:
        storage = _storage(path) if path.is_file() else None
        if storage is None or name not in optuna.get_all_study_names(storage):
            raise ConfigError(f"{path}: has no trials of search {name}; repeat its command")
        study = optuna.load_study(study_name=name, storage=storage)
        trials = study.get_trials(states=(TrialState.COMPLETE,))
    except failures() as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(_unusable(path, str(error).splitlines()[0])) from error
    trials.sort(key=lambda trial: trial.value or 0.0)
    if study.direction is StudyDirection.MAXIMIZE:
        trials.reverse()
    settings = [{key: str(value) for key, value in trial.params.items()} for trial in trials]
    return [each for n, each in enumerate(settings) if each not in settings[:n]][:count]
