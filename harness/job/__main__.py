"""One job: train one run folder in this process. It knows neither Hydra nor MLflow.

    python -m harness.job outputs/runs/<run id>

Exit status: 0 finished, 1 failed, 130 interrupted. With `--attached` instead of a folder, standard
input is a pipe from the command that started the job. A line of it names the folder; when that
command dies, however it dies, the pipe closes and the job ends as KILLED. With `--forking` it is a
socket on which the command asks for such jobs (harness/forkserver.py).
"""

import argparse
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType

import numpy as np
from filelock import Timeout
from threadpoolctl import threadpool_limits

from harness.data.atomic import write_atomically, write_text
from harness.data.dataset import open_dataset
from harness.job import build, forkserver, progress
from harness.job import parent as pipe
from harness.nn.compiled import numba_loading as compiler
from harness.runfolder import checkpoint, config, environment, journal
from harness.runfolder import folder as runs
from harness.runfolder.checkpoint import Checkpoints
from harness.runfolder.journal import Journal
from harness.runfolder.plan import source_digest
from harness.training.trainer import Diverged, Result, Trainer

UNCOMMITTED = "uncommitted.diff"
EXIT = {"FINISHED": 0, "FAILED": 1, "KILLED": 130}

INTERRUPTED = threading.Event()


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM, or the end of the command that started this job."""


class JobRecorder:
    """Makes each epoch durable, then shows it: first the checkpoint, then the journal's record.

    A kill between the two leaves a checkpoint whose epoch the journal lacks; the checkpoint carries
    the record, and resuming writes it. Epochs that the journal has already, because an older
    checkpoint had to be taken, are not recorded twice.
    """

    def __init__(
        self,
        writer: Journal,
        shown: progress.Display,
        checkpoints: Checkpoints,
        told: journal.History,
    ) -> None:
        self._writer = writer
        self._shown = shown
        self._checkpoints = checkpoints
        self._recorded, self._has_final = len(told.epochs), bool(told.final)

    def epoch(self, epoch: int, values: dict[str, float], trainer: Trainer) -> None:
        """Checkpoint, record, show."""
        arrays, rest = trainer.state()
        description = {"epoch": epoch, "metrics": values, "state": rest}
        self._checkpoints.save(epoch, trainer.best_epoch, arrays, description)
        if trainer.is_over:
            _ignore_signals()  # what is left takes less time than doing it again would
        self.record(epoch, values)
        self._shown.epoch(epoch, values)

    def final(self, epoch: int, values: dict[str, float]) -> None:
        """The test set's metrics, unless the journal has them: a second row in the store else."""
        if not self._has_final:
            self._writer.append("final", epoch=epoch, metrics=values)

    def resume(self, trainer: Trainer) -> None:
        """Put the newest checkpoint back into the trainer, if there is one."""
        found = self._checkpoints.newest()
        if found is not None:
            arrays, description = found
            trainer.restore(arrays, description["state"])
            self.record(description["epoch"], description["metrics"])

    def record(self, epoch: int, values: dict[str, float]) -> None:
        """Write an epoch's record, unless the journal has it."""
        if epoch > self._recorded:
            self._writer.append("epoch", epoch=epoch, metrics=values)
            self._recorded = epoch


def train(folder: Path) -> str:
    """Train a run folder to its end and return its status: FINISHED, FAILED or KILLED.

    Whatever happens, the journal's last record says so; a failure leaves `traceback.txt`.
    """
    with runs.lock(folder), Journal(folder / journal.FILE_NAME) as writer:
        if runs.is_finished(folder):
            return "FINISHED"  # by another command, since this one looked
        try:
            _train(folder, writer)
        except Interrupted:
            writer.append("end", status="KILLED", error="interrupted")
            return "KILLED"
        except (Exception, SystemExit) as error:
            if INTERRUPTED.is_set():  # Numba's compiler turns it into an error of its own
                writer.append("end", status="KILLED", error="interrupted")
                return "KILLED"
            _fail(folder, writer, error)
            return "FAILED"
        writer.append("end", status="FINISHED", error=None)
        return "FINISHED"


def _fail(folder: Path, writer: Journal, error: BaseException) -> None:
    """Leave the traceback and the last record, and say it; on a full disk at least say it."""
    text = traceback.format_exc()
    told = journal.history(folder)
    words = f"{type(error).__name__}: {error}"
    print(f"{told.create['name']} ({told.run}) failed: {words}", file=sys.stderr)
    if not isinstance(error, (Diverged, ValueError, OSError)):
        print(text, file=sys.stderr)
    try:
        write_text(folder / "traceback.txt", text)
        writer.append("artifact", path="traceback.txt")
        writer.append("end", status="FAILED", error=words)
    except OSError as full:
        print(f"{folder}: its end could not be written down either: {full}", file=sys.stderr)


def _train(folder: Path, writer: Journal) -> None:
    settings = config.read_yaml(folder / runs.CONFIG)
    told = journal.history(folder)
    wanted = settings.dataset
    dataset = open_dataset(
        told.create["dataset"]["sha256"],
        folder.resolve().parents[1] / "cache",
        num_val=wanted.num_val,
        num_train=wanted.num_train,
        split_seed=wanted.split_seed,
    )
    # Numba looks at one file only when it takes compiled code from its cache; we look at all.
    compiled = folder.resolve().parents[1] / "cache" / f"numba-{source_digest()[:12]}"
    os.environ.setdefault("NUMBA_CACHE_DIR", str(compiled))
    if settings.backend == "numba":
        compiler.load()
        sys.modules["numba"].config.reload_config()  # it may have been loaded before
    # Products differ in their last bits with the number of threads: a resumed run keeps its own.
    threads = (
        told.start["threads"]
        if told.start
        else build.blas_threads(
            build.sizes(settings, dataset), settings.batch, environment.cores(), settings.threads
        )
    )
    writer.append("start", **runs.this_process(), threads=threads, backend=settings.backend)
    write_text(folder / "environment.txt", environment.describe(threads))
    if changes := environment.uncommitted():
        write_text(folder / UNCOMMITTED, changes)
    kept = settings.checkpoint
    checkpoints = Checkpoints(
        folder / "checkpoints", every=kept.every, keep=kept.keep, milestones=kept.milestones
    )
    with threadpool_limits(limits=threads):
        trainer = build.trainer(settings, dataset)
        name, done = told.create["name"], len(told.epochs)
        with progress.display(name, settings.epochs, done) as shown:
            recorder = JobRecorder(writer, shown, checkpoints, told)
            recorder.resume(trainer)
            try:
                result = trainer.run(recorder)
            except Diverged as error:
                recorder.record(error.epoch, error.values)  # but no checkpoint to go on from
                raise
    _write_artifacts(folder, writer, trainer, result)


def _write_artifacts(folder: Path, writer: Journal, trainer: Trainer, result: Result) -> None:
    description = build.description(trainer)
    parameters = trainer.network.parameters
    weights = {
        "weights/last.safetensors": (trainer.finished, trainer.evaluated.parameters.flat),
        "weights/best.safetensors": (result.best_epoch, trainer.best_parameters),
    }
    for path, (epoch, flat) in weights.items():
        arrays = {}
        for number, layer in enumerate(type(parameters)(parameters.sizes, flat).layers, 1):
            arrays[f"layer{number}.weights"] = layer.weights
            arrays[f"layer{number}.bias"] = layer.bias
        checkpoint.save(folder / path, arrays, description | {"epoch": epoch})
    write_atomically(
        folder / "predictions/test.npz",
        lambda file: np.savez(
            file, labels=trainer.dataset.test.labels, probabilities=result.probabilities
        ),
    )
    paths = [*weights, "predictions/test.npz", runs.CONFIG, "environment.txt"]
    if (folder / UNCOMMITTED).is_file():
        paths.append(UNCOMMITTED)
    for path in paths:
        writer.append("artifact", path=path)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ignore_signals()  # the first ends the run; more of them must not disturb its last words
    INTERRUPTED.set()
    raise Interrupted


def _ignore_signals() -> None:
    # Not SIG_IGN: Python complains of one that is on its way already.
    signal.signal(signal.SIGINT, _nothing)
    signal.signal(signal.SIGTERM, _nothing)


def _nothing(number: int, frame: FrameType | None) -> None:
    """What these signals do from now on."""


def main() -> None:
    """The command line of a job."""
    parser = argparse.ArgumentParser(prog="python -m harness.job")
    told = parser.add_mutually_exclusive_group(required=True)
    told.add_argument("folder", type=Path, nargs="?", help="a run folder, outputs/runs/<run id>")
    told.add_argument(
        "--attached", action="store_true", help="standard input names it, and ends it"
    )
    told.add_argument("--forking", action="store_true", help="standard input asks for such jobs")
    arguments = parser.parse_args()
    is_attached = arguments.folder is None
    if is_attached:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command sees it and closes the pipe
        if hasattr(signal, "pthread_sigmask"):  # as `spares.start` left it
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        pipe.prepare()
        if arguments.forking:
            forkserver.serve()
        arguments.folder = pipe.told()
        if arguments.folder is None:
            return
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    if is_attached:
        threading.Thread(target=pipe.watch, args=(EXIT["KILLED"],), daemon=True).start()
    status = EXIT["FAILED"]
    try:
        status = EXIT[train(arguments.folder)]
    except Timeout:
        print(f"{arguments.folder}: another process is training it", file=sys.stderr)
    except (OSError, journal.JournalError) as error:
        print(error, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is durable; taking the interpreter apart takes as long as an epoch


if __name__ == "__main__":
    main()
