"""Train one run folder to its end. Neither Hydra nor MLflow is imported here."""

import os
import random
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib import import_module

import numpy as np
from threadpoolctl import threadpool_limits

from harness.data.atomic import write_atomically, write_text
from harness.data.dataset import Dataset
from harness.job import build, interruption, kernels, progress, scratch
from harness.job.interruption import JobInterrupted
from harness.job.machine import Meter
from harness.job.training_run import TrainingRun
from harness.nn.optimizers import OPTIMIZERS
from harness.runfolder import checkpoints, environment, liveness, own_code, parts
from harness.runfolder import config as configuration
from harness.runfolder.artifacts import Artifact
from harness.runfolder.config import ConfigError
from harness.runfolder.journal import Journal
from harness.runfolder.keys import source_digest
from harness.runfolder.objective import Objective
from harness.runfolder.parts import PartError
from harness.runfolder.run import CONFIG, SOURCE, Run
from harness.runfolder.schema import Config, ScratchConfig
from harness.runfolder.status import RunStatus
from harness.training.monitor import Diverged
from harness.training.options import Ties
from harness.training.threads import cores, threads_of

UNCOMMITTED = "uncommitted.diff"
ENVIRONMENT = "environment.txt"
THREADS = "traceback-threads.txt"  # the tracebacks of threads that failed
IMPORTED_LATER = ("harness.runfolder.own_dataset", "safetensors.numpy")
# The same for all jobs that a server forks: they run the source that it has imported.
_facts = cache(environment.unchanging)
_changes = cache(environment.uncommitted)


def train(
    run: Run, *, alone: bool = False, wait_s: float = 5.0, pause: int | None = None
) -> RunStatus:
    """Train a run to its end and return its status: FINISHED, FAILED or KILLED.

    The journal's end record has the status in every case; a failure leaves `traceback.txt`. alone:
    whether it is the command's only job, whose failure the command prints from the end record.
    wait_s: how long to wait while another process trains it, before raising `filelock.Timeout`.
    pause: the epoch after which it ends as KILLED, with a checkpoint; None: the last one.
    """
    with run.writing(wait_s) as journal:
        if run.is_finished:
            return RunStatus.FINISHED  # another command finished it while this one waited
        threading.excepthook = partial(_note_thread, run)
        run.take_stop_request()  # left by a killed session
        meter = Meter()
        try:
            _train(run, journal, meter, pause)
        except JobInterrupted as interrupted:
            return _end(journal, RunStatus.KILLED, interrupted.why, meter)
        except BaseException as error:  # user code can raise more than `Exception`
            if interruption.requested.is_set():  # Numba's compiler raises its own error
                return _end(journal, RunStatus.KILLED, "interrupted", meter)
            _fail(run, journal, error, meter, alone=alone)
            return RunStatus.FAILED
        finally:
            run.take_stop_request()  # one that came too late
        status = _end(journal, RunStatus.FINISHED)
        with suppress(JobInterrupted):  # `harness clean` removes what is left
            _remove_checkpoints(run)
        return status


def ask_git() -> None:
    """Learn the commit and the uncommitted changes once for all forked jobs, like `prepare`.

    The fork server does this on a thread while it imports, because it mostly waits for git.
    """
    with suppress(Exception):
        _facts()
        _changes()


def prepare() -> None:
    """Do once what every forked job would do: build validators, import modules, load kernels.

    Errors are ignored here, because the jobs report them.
    """
    with suppress(Exception):
        configuration.prepare()
        for module in IMPORTED_LATER:
            import_module(module)
    with suppress(Exception):
        kernels.preload()


def _end(
    journal: Journal, status: RunStatus, error: str | None = None, meter: Meter | None = None
) -> RunStatus:
    """Write the end record. meter: for a run that can be resumed."""
    totals = meter.totals() if meter else {}
    journal.append("end", status=status, error=error, **({"machine": totals} if totals else {}))
    return status


def _remove_checkpoints(run: Run) -> None:
    """Remove checkpoints that only an unfinished run needs, unless the settings keep all."""
    if not run.config.checkpoint.keep:
        return
    try:
        for path in checkpoints.spare(run):
            checkpoints.remove(path)
    except OSError as error:
        print(f"warning: {run.id} is finished, but has checkpoints left: {error}", file=sys.stderr)


def _note_thread(run: Run, failed: threading.ExceptHookArgs) -> None:
    """Print the error of a user's thread, and keep its traceback with the run.

    The run goes on: only the training function knows whether it needs the thread.
    """
    if failed.exc_value is None or isinstance(failed.exc_value, SystemExit):
        return
    words = own_code.described(failed.exc_value)
    print(f"warning: {run.id}: a thread failed: {words}", file=sys.stderr, flush=True)
    lines = traceback.format_exception(failed.exc_value)
    with suppress(OSError), (run.folder / THREADS).open("a", encoding="utf-8") as file:
        file.write("".join(lines))


def _fail(run: Run, journal: Journal, error: BaseException, meter: Meter, *, alone: bool) -> None:
    """Print the error, then write the traceback and the end record. alone: see `train`.

    If the run folder was removed, or the disk is full, only the message is printed.
    """
    text = traceback.format_exc()
    is_gone = not run.journal.is_file()
    is_own = not is_gone and bool(run.history().code)
    if is_gone:
        words = f"{run.folder} was removed while it was trained"
    elif isinstance(error, PartError | ConfigError | Diverged):  # for the user, without the class
        words = own_code.message(error)
    elif is_own:
        words = own_code.described(error)
    else:
        words = f"{type(error).__name__}: {own_code.message(error)}"
    line = f"{run.name} ({run.id}) failed: {words}"
    if not alone or is_gone:
        print(line, file=sys.stderr)
    if is_gone:
        return
    if not is_own and not isinstance(error, (Diverged, ValueError, OSError)):
        print(text, file=sys.stderr)
    try:
        write_text(run.folder / "traceback.txt", text)
        _record(run, journal, ["traceback.txt", *_circumstances(run)])
        _end(journal, RunStatus.FAILED, words, meter)
    except OSError as full:
        if alone:
            print(line, file=sys.stderr)
        print(f"{run.folder}: the end record could not be written: {full}", file=sys.stderr)


def _train(run: Run, journal: Journal, meter: Meter, pause: int | None) -> None:
    run.check_trainable()
    config, history, dataset = run.config, run.history(), run.dataset()
    _check_source(run, journal)
    backend = config.backend if isinstance(config, ScratchConfig) else None
    if backend == "numba":
        kernels.load(run.cache)
    own_code.use(history.code)
    fit = _training_function(config, run.ties)
    threads = _threads(run, dataset)
    journal.append("start", **liveness.this_process(), threads=threads, backend=backend)
    libraries = own_code.libraries(own_code.sources(config.own_names))
    write_text(run.folder / ENVIRONMENT, environment.describe(threads, libraries, _facts()))
    if config.tracking.diff and (changes := _changes()):
        patch = changes.encode(errors="surrogateescape")
        write_atomically(run.folder / UNCOMMITTED, lambda file: file.write(patch))
    objective = Objective.parse(config.objective)
    with (
        threadpool_limits(limits=threads),
        progress.display(run.name, config.epochs, len(history.epochs), objective) as show,
    ):
        meter.begin(history.machine)
        training = TrainingRun(
            run, journal, show, dataset=dataset, threads=threads, meter=meter, pause=pause
        )
        with _only_here(config.trainer.name):
            fit(training)
    epochs = len(run.history().epochs)
    if not epochs:
        raise ValueError(f"trainer={config.trainer.name}: it returned without logging an epoch")
    if not training.has_final:
        raise ValueError(
            f"trainer={config.trainer.name}: it returned after epoch {epochs} without "
            "run.final(...), which records the metrics of the test set"
        )
    training.finish()
    _record(run, journal, [*training.files, *_circumstances(run)])


def _check_source(run: Run, journal: Journal) -> None:
    """Raise `ConfigError` if a run without epochs was made with other source than is here now.

    A run that has epochs goes on, as `resume` allows after an upgrade; its tag gets both digests.
    """
    history, now = run.history(), source_digest()
    known = history.tags.get(SOURCE, now).split(",")
    if not isinstance(run.config, ScratchConfig) or now in known:
        return
    if not history.epochs:
        raise ConfigError(
            "the source of data/, nn/ or training/ changed after the command made this run; "
            "repeat the command"
        )
    print(f"{run.name} ({run.id}): continues with changed source code", flush=True)
    journal.append("tags", tags={SOURCE: ",".join([*known, now])})


@contextmanager
def _only_here(trainer: str) -> Iterator[None]:
    """End a process that the user's code forked and that leaves this block.

    It would otherwise continue as a second writer of the run.
    """
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            print(
                f"trainer={trainer}: ended a forked process that returned from the training "
                "function"
            )
            sys.stdout.flush()
            os._exit(1)


def _training_function(config: Config, ties: Ties) -> Callable[[TrainingRun], None]:
    """The function that trains. Raises `OwnCodeError` if the user's cannot be imported.

    ties: see `Run.ties`.
    """
    if isinstance(config, ScratchConfig):
        return partial(scratch.fit, config, ties=ties)
    name, options = config.trainer.name, dict(config.trainer.options)
    function = parts.factory("trainer", name)
    settings = parts.settings_class(name, function)(**options)
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)  # for libraries that use the global one
    return partial(function, settings)


def _circumstances(run: Run) -> list[str]:
    """The paths of the files that record what was trained, with which code and where."""
    own = (f"{own_code.FOLDER}/{each['path']}" for each in run.history().code)
    paths = [CONFIG, ENVIRONMENT, *own, UNCOMMITTED, THREADS]
    return [path for path in paths if (run.folder / path).is_file()]


def _record(run: Run, journal: Journal, paths: Iterable[str]) -> None:
    """Write the record of each artifact."""
    for path in paths:
        journal.append("artifact", **Artifact.measure(run.folder, path).record())


def _threads(run: Run, dataset: Dataset) -> int:
    """The run's threads: the required number, else by the rule for its network."""
    config = run.config
    if run.history().start is not None or not isinstance(config, ScratchConfig):
        return run.required_threads
    network = build.network(config, dataset.input_shape, dataset.outputs)
    optimizer = OPTIMIZERS.get(config.optimizer.name)
    return threads_of(network, optimizer, build.options(config), cores(), config.threads)
