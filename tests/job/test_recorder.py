"""The recorder of a job: checkpoint, then journal, then display, and no record twice."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.job import interruption
from harness.job.recorder import JobRecorder
from harness.runfolder import journal as journals
from harness.runfolder.checkpoint import Checkpoints
from harness.runfolder.journal import Journal
from harness.runfolder.run import Run
from tests.conftest import new_run


class Trainer:
    """The parts of a trainer that the recorder uses."""

    def __init__(self) -> None:
        self.best_epoch, self.is_over = 1, False
        self.restored: Any = None

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"parameters": np.zeros(3, np.float32)}, {"finished": 1}

    def restore(self, arrays: dict[str, Any], state: dict[str, Any]) -> None:
        self.restored = (arrays, state)


class Parts:
    """A recorder, and the calls of its journal, checkpoints and display in their order."""

    def __init__(self, run: Run, journal: Journal) -> None:
        self.calls: list[str] = []
        self.trainer: Any = Trainer()
        parts = self

        class Recorded(Checkpoints):
            def save(self, epoch: int, *rest: Any) -> None:
                parts.calls.append(f"checkpoint {epoch}")
                super().save(epoch, *rest)

        self.checkpoints = Recorded(run.folder / "checkpoints", every=1, keep=0)
        history = run.history()
        append = journal.append

        def noted(kind: str, **content: Any) -> Any:
            parts.calls.append(f"record {kind}")
            return append(kind, **content)

        journal.append = noted  # type: ignore[method-assign]

        def show(epoch: int, values: dict[str, float]) -> None:
            parts.calls.append(f"show {epoch}")

        self.recorder = JobRecorder(journal, show, self.checkpoints, history)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(tmp_path)


def recorded(run: Run) -> list[tuple[str, int]]:
    records = journals.read(run.journal)[0]
    return [(r["kind"], r["epoch"]) for r in records if r["kind"] in ("epoch", "final")]


def test_an_epoch_is_durable_before_it_is_shown(run: Run) -> None:
    with run.writing() as journal:
        parts = Parts(run, journal)
        parts.recorder.epoch(1, {"val/error": 0.5}, parts.trainer)
    assert parts.calls == ["checkpoint 1", "record epoch", "show 1"]
    newest = parts.checkpoints.newest()
    assert newest is not None
    assert newest[1] == {"epoch": 1, "metrics": {"val/error": 0.5}, "state": {"finished": 1}}


def test_a_checkpoint_whose_record_is_missing_brings_it(run: Run) -> None:
    """As after a kill between the two."""
    with run.writing() as journal:
        parts = Parts(run, journal)
        parts.recorder.epoch(1, {"a": 1.0}, parts.trainer)
    run.journal.write_bytes(run.journal.read_bytes().split(b"\n", 1)[0] + b"\n")
    assert recorded(run) == []
    with run.writing() as journal:
        again = Parts(run, journal)
        again.recorder.resume(again.trainer)
    assert recorded(run) == [("epoch", 1)]
    assert again.trainer.restored[1] == {"finished": 1}


def test_without_a_checkpoint_there_is_nothing_to_resume(run: Run) -> None:
    with run.writing() as journal:
        parts = Parts(run, journal)
        parts.recorder.resume(parts.trainer)
    assert parts.trainer.restored is None
    assert parts.calls == []


def test_epochs_that_the_journal_has_are_not_recorded_again(run: Run) -> None:
    """As after a resume from an older checkpoint."""
    with run.writing() as journal:
        for epoch in (1, 2):
            journal.append("epoch", epoch=epoch, metrics={})
    with run.writing() as journal:
        parts = Parts(run, journal)
        for epoch in (2, 3):
            parts.recorder.epoch(epoch, {}, parts.trainer)
    assert recorded(run) == [("epoch", 1), ("epoch", 2), ("epoch", 3)]
    assert parts.calls == ["checkpoint 2", "show 2", "checkpoint 3", "record epoch", "show 3"]


def test_final_metrics_are_recorded_once(run: Run) -> None:
    for _ in range(2):
        with run.writing() as journal:
            Parts(run, journal).recorder.final(3, {"test/error": 0.5})
    assert recorded(run) == [("final", 3)]


def test_after_the_last_epoch_signals_are_ignored(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = []
    monkeypatch.setattr(interruption, "ignore_signals", lambda: ignored.append(1))
    with run.writing() as journal:
        parts = Parts(run, journal)
        parts.recorder.epoch(1, {}, parts.trainer)
        assert ignored == []
        parts.trainer.is_over = True
        parts.recorder.epoch(2, {}, parts.trainer)
        assert ignored == [1]
