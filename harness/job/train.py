"""Train one run folder to its end. Neither Hydra nor MLflow is imported here."""

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from harness.data.atomic import write_atomically, write_text
from harness.data.dataset import Dataset
from harness.data.normalization import state_arrays
from harness.job import build, interruption, progress
from harness.job.interruption import JobInterrupted
from harness.job.recorder import JobRecorder
from harness.nn.compiled import numba_loading
from harness.runfolder import checkpoint, environment, liveness
from harness.runfolder.artifacts import Artifact
from harness.runfolder.checkpoint import Checkpoints
from harness.runfolder.journal import Journal
from harness.runfolder.keys import source_digest
from harness.runfolder.run import CONFIG, WEIGHTS, Run
from harness.runfolder.status import RunStatus
from harness.training.trainer import Diverged, Result, Trainer

UNCOMMITTED = "uncommitted.diff"
ENVIRONMENT = "environment.txt"
PREDICTIONS = "predictions/test.npz"


def train(run: Run) -> RunStatus:
    """Train a run to its end and return its status: FINISHED, FAILED or KILLED.

    The journal's end record has the status in every case; a failure leaves `traceback.txt`.
    """
    with run.writing() as journal:
        if run.is_finished:
            return RunStatus.FINISHED  # another command finished it while this one waited
        try:
            _train(run, journal)
        except JobInterrupted:
            return _end(journal, RunStatus.KILLED, "interrupted")
        except (Exception, SystemExit) as error:
            if interruption.requested.is_set():  # Numba's compiler raises an error of its own
                return _end(journal, RunStatus.KILLED, "interrupted")
            _fail(run, journal, error)
            return RunStatus.FAILED
        return _end(journal, RunStatus.FINISHED)


def _end(journal: Journal, status: RunStatus, error: str | None = None) -> RunStatus:
    journal.append("end", status=status, error=error)
    return status


def _fail(run: Run, journal: Journal, error: BaseException) -> None:
    """Print the error, then write the traceback and the end record.

    If the run folder was removed, or the disk is full, only the message is printed.
    """
    text = traceback.format_exc()
    words = f"{type(error).__name__}: {error}"
    if not run.journal.is_file():
        words = f"{run.folder} was removed while it was trained"
    print(f"{run.history().name} ({run.id}) failed: {words}", file=sys.stderr)
    if not run.journal.is_file():
        return
    if not isinstance(error, (Diverged, ValueError, OSError)):
        print(text, file=sys.stderr)
    try:
        write_text(run.folder / "traceback.txt", text)
        journal.append("artifact", **Artifact.measure(run.folder, "traceback.txt").record())
        _end(journal, RunStatus.FAILED, words)
    except OSError as full:
        print(f"{run.folder}: the end record could not be written: {full}", file=sys.stderr)


def _train(run: Run, journal: Journal) -> None:
    config, history, dataset = run.config, run.history(), run.dataset()
    _prepare_numba(run)
    threads = _threads(run, dataset)
    journal.append("start", **liveness.this_process(), threads=threads, backend=config.backend)
    write_text(run.folder / ENVIRONMENT, environment.describe(threads))
    if config.tracking.diff and (changes := environment.uncommitted()):
        patch = changes.encode(errors="surrogateescape")
        write_atomically(run.folder / UNCOMMITTED, lambda file: file.write(patch))
    keeping = config.checkpoint
    checkpoints = Checkpoints(
        run.folder / "checkpoints",
        every=keeping.every,
        keep=keeping.keep,
        milestones=keeping.milestones,
    )
    with threadpool_limits(limits=threads):
        trainer = build.trainer(config, dataset)
        with progress.display(history.name, config.epochs, len(history.epochs)) as show:
            recorder = JobRecorder(journal, show, checkpoints, history)
            recorder.resume(trainer)
            try:
                result = trainer.run(recorder)
            except Diverged as error:
                recorder.record(error.epoch, error.values)  # without a checkpoint to resume from
                raise
    for path in _write_artifacts(run, trainer, result):
        journal.append("artifact", **Artifact.measure(run.folder, path).record())


def _prepare_numba(run: Run) -> None:
    """Load Numba where the run uses it, with a cache of compiled code for this very source."""
    if run.config.backend != "numba":
        return
    if not _can_write(os.environ.get("NUMBA_CACHE_DIR")):
        # Numba checks the file of a function only, not those that it imports; the digest covers
        # all.
        folder = run.cache.resolve() / f"numba-{source_digest()[:12]}"
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
    numba_loading.load()
    sys.modules["numba"].config.reload_config()  # it may have been loaded before


def _can_write(folder: str | None) -> bool:
    """Whether the user's folder can be written to; Numba refuses to compile where it cannot."""
    if not folder:
        return False
    with suppress(OSError):
        Path(folder).mkdir(parents=True, exist_ok=True)  # as Numba does
    return os.access(folder, os.W_OK | os.X_OK)


def _threads(run: Run, dataset: Dataset) -> int:
    """The run's BLAS threads: those it started with, or by its settings.

    Products differ in their last bits with the number of threads.
    """
    start = run.history().start
    if start is not None:
        return int(start["threads"])
    sizes = build.sizes(run.config, dataset)
    return build.blas_threads(sizes, run.config.batch, environment.cores(), run.config.threads)


def _write_artifacts(run: Run, trainer: Trainer, result: Result) -> list[str]:
    """Write weights and predictions; returns the paths of all artifacts of a finished run."""
    description = build.description(trainer)
    parameters = trainer.network.parameters
    weights = {
        "weights/last.safetensors": (trainer.finished, trainer.evaluated.parameters.flat),
        WEIGHTS: (result.best_epoch, trainer.best_parameters),
    }
    for path, (epoch, flat) in weights.items():
        arrays = state_arrays(trainer.normalization)
        for number, layer in enumerate(type(parameters)(parameters.sizes, flat).layers, 1):
            arrays[f"layer{number}.weights"] = layer.weights
            arrays[f"layer{number}.bias"] = layer.bias
        checkpoint.save(run.folder / path, arrays, description | {"epoch": epoch})
    (run.folder / PREDICTIONS).parent.mkdir(exist_ok=True)
    write_atomically(
        run.folder / PREDICTIONS,
        lambda file: np.savez(
            file, labels=trainer.dataset.test.labels, probabilities=result.probabilities
        ),
    )
    paths = [*weights, PREDICTIONS, CONFIG, ENVIRONMENT]
    return paths + ([UNCOMMITTED] if (run.folder / UNCOMMITTED).is_file() else [])
