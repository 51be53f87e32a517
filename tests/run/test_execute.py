"""Executing a command: what happens in which order, and what a failure does not stop."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import Timeout

from harness.analysis import compare, run_plots
from harness.run import execute, freeze
from harness.run.launcher_schema import Engines
from harness.run.launchers import choose
from harness.run.launchers.base import LauncherError, OnEnd
from harness.run.launchers.prestart import Prestart
from harness.runfolder import optional
from harness.runfolder.environment import Commit
from harness.runfolder.journal import Journal
from harness.runfolder.liveness import FolderLock
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.delivery import Report
from harness.tracking.views import View
from tests.conftest import new_run, record_training

REPORT = "report/0123456789/index.html"


class Recorder:
    """Stands for the delivery process, the launcher and the comparison; notes what was called."""

    slots = 1

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.artifacts: list[str] = []
        self.target: Target | None = None
        self.targets: list[Target] = []
        self.error: BaseException | None = None
        self.runs: list[Run] = []
        self.before: Sequence[Run] = ()
        self.view: View | None = None

    def __call__(self, target: Target, outputs: Path, patience: float) -> "Recorder":
        """What creates a delivery process."""
        self.target = target
        self.targets.append(target)
        return self

    def follow(self, run: Run) -> None:
        self.calls.append("follow")
        self.runs.append(run)

    def run(self, runs: Sequence[Run], on_end: OnEnd, before: Sequence[Run] = ()) -> None:
        self.calls.append("train")
        self.before = before
        for run in runs:
            record_training(run, 0.5)
            on_end(run)
        if self.error is not None:
            raise self.error

    def plot(self, run: Run) -> None:
        self.calls.append("plot")

    def compare(self, plan: Plan, outputs: Path) -> str:
        """As the real one: note the report in the journal of the best run."""
        self.calls.append("compare")
        best = plan.runs(outputs)[0]
        (best.folder / REPORT).parent.mkdir(parents=True)
        (best.folder / REPORT).touch()
        best.add_artifacts([REPORT])
        return "report: the answer"

    def close(self, view: View | None = None) -> Report:
        self.calls.append("close")
        self.view = view
        self.artifacts = self.runs[0].history().artifacts
        return Report()


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(execute, "DeliveryProcess", recorder)
    monkeypatch.setattr(choose, "create", lambda *_: recorder)
    monkeypatch.setattr(compare, "after_sweep", recorder.compare)
    monkeypatch.setattr(run_plots, "draw", recorder.plot)
    return recorder


def plan_of(*runs: Run) -> Plan:
    return Plan("0123456789", ("-m",), tuple(SweepJob(run.id, "n", {}, "k") for run in runs))


def executed(*runs: Run, plan: Plan | None) -> int:
    return execute.execute(list(runs), plan, Engines(), Prestart())


def test_the_report_is_noted_in_the_journal_before_the_delivery_closes(
    tmp_path: Path, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise it is no artifact in MLflow: the delivery has ended."""
    runs = [new_run(tmp_path), new_run(tmp_path)]
    assert executed(*runs, plan=plan_of(*runs)) == 0
    assert recorder.calls == ["follow"] * 2 + ["train"] + ["plot"] * 2 + ["compare", "close"]
    assert list(recorder.artifacts) == [REPORT], "when it closes, the journal has the report"
    assert recorder.view == View.of(plan_of(*runs), tmp_path)
    assert recorder.view is not None
    out = capsys.readouterr().out
    assert out.endswith("report: the answer\n"), "it is printed below the table"
    assert out.index("run id") < out.index("report: ")


def test_a_single_run_is_not_compared(tmp_path: Path, recorder: Recorder) -> None:
    assert executed(new_run(tmp_path), plan=None) == 0
    assert recorder.calls == ["follow", "train", "plot", "close"]
    assert recorder.view is None


def test_without_tracking_nothing_is_delivered_or_plotted(
    tmp_path: Path, recorder: Recorder
) -> None:
    run = new_run(tmp_path, "tracking=none")
    assert executed(run, plan=plan_of(run)) == 0
    assert recorder.calls == ["train", "compare"]


def test_an_interrupted_sweep_is_delivered_and_not_compared(
    tmp_path: Path, recorder: Recorder
) -> None:
    recorder.error = KeyboardInterrupt()
    run = new_run(tmp_path)
    assert executed(run, plan=plan_of(run)) == 130
    assert recorder.calls == ["follow", "train", "plot", "close"]


def test_a_launcher_that_cannot_start_jobs_is_named_and_the_rest_is_delivered(
    tmp_path: Path, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.error = LauncherError("no such partition")
    finished, waiting = new_run(tmp_path), new_run(tmp_path)
    recorder.run = lambda runs, on_end, _: Recorder.run(recorder, runs[:1], on_end)  # type: ignore[method-assign]
    assert executed(finished, waiting, plan=plan_of(finished, waiting)) == 1
    assert "error: no such partition\n" in capsys.readouterr().err
    assert recorder.calls[-1] == "close"


def test_finished_runs_are_not_trained_again(
    tmp_path: Path, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [record_training(new_run(tmp_path, name=f"seed={n}"), 0.5) for n in (1, 2)]
    assert executed(*runs, plan=plan_of(*runs)) == 0
    assert "train" not in recorder.calls
    out = capsys.readouterr().out
    for run in runs:
        assert f"n: finished before as {run.id}\n" in out, "the name of this sweep's job"
    executed(runs[0], plan=None)
    assert f"seed=1: finished before as {runs[0].id}\n" in capsys.readouterr().out


def test_finished_runs_count_in_the_progress_of_the_others(
    tmp_path: Path, recorder: Recorder
) -> None:
    finished, failed = (
        record_training(new_run(tmp_path), 0.5, status=s) for s in ("FINISHED", "FAILED")
    )
    executed(finished, failed, plan=plan_of(finished, failed))
    assert recorder.before == [finished], "the failed one is tried again"


def test_a_run_that_is_continued_is_named_with_its_epoch(
    tmp_path: Path, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.run = lambda runs, on_end, before: None  # type: ignore[method-assign]
    new, broken = new_run(tmp_path, name="seed=1"), new_run(tmp_path, name="seed=2")
    with Journal(broken.journal) as writer:
        writer.append("start", host="h", pid=1, threads=1, backend="numpy")
    executed(new, broken, plan=plan_of(new, broken))
    assert f"\nn: continues {broken.id} from its start\n" in f"\n{capsys.readouterr().out}"
    (broken.folder / "checkpoints/epoch-000002").mkdir(parents=True)
    executed(broken, plan=None)
    assert f"\nseed=2: continues {broken.id} after epoch 2 of " in f"\n{capsys.readouterr().out}"
    executed(new, plan=None)
    assert "continues" not in capsys.readouterr().out
    execute.execute([new], None, Engines(), Prestart(), resumes=True)
    assert f"\nseed=1: continues {new.id} from its start\n" in f"\n{capsys.readouterr().out}"


@pytest.mark.parametrize("error", [ValueError("no curves"), RuntimeError("no fonts")])
def test_plots_that_cannot_be_drawn_do_not_stop_the_sweep(
    tmp_path: Path,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def fail(run: Run) -> None:
        raise error

    monkeypatch.setattr(run_plots, "draw", fail)
    monkeypatch.setattr(optional, "_warned", set())
    run = new_run(tmp_path)
    assert executed(run, plan=None) == 0
    expected = f"warning: plots: {type(error).__name__}: {error}\n"
    assert capsys.readouterr().err.count(expected) == 1


@pytest.mark.parametrize(
    ("overrides", "uri"),
    [
        (("tracking=none",), None),
        (("tracking=local",), "local"),
        (("tracking=server", "tracking.uri=http://host:5000"), "http://host:5000"),
    ],
)
def test_the_delivery_goes_to_the_store_of_the_settings(
    tmp_path: Path, recorder: Recorder, overrides: tuple[str, ...], uri: str | None
) -> None:
    target = new_run(tmp_path, *overrides).target()
    execute.Deliveries(target, tmp_path, 30)
    assert (recorder.target and recorder.target.key) == uri


def test_each_run_is_delivered_to_its_own_store(tmp_path: Path, recorder: Recorder) -> None:
    """A finished run that a sweep reuses stays where it is; the new one goes where it should."""
    reused = record_training(new_run(tmp_path), 0.5)
    server = ("tracking=server", "tracking.uri=http://host:5000")
    fresh = new_run(tmp_path, *server)
    assert executed(reused, fresh, plan=plan_of(reused, fresh)) == 0
    assert recorder.targets == [Target("http://host:5000"), Target.local(tmp_path)]
    assert recorder.calls.count("close") == 2


def test_uncommitted_changes_are_told_unless_they_stay_here(
    tmp_path: Path,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(freeze, "source", lambda: Commit("abc", dirty=True))
    for overrides, told in (((), 1), (("tracking.diff=false",), 0), (("tracking=none",), 0)):
        executed(new_run(tmp_path, *overrides), plan=None)
        assert capsys.readouterr().out.count("tracking.diff=false leaves them out") == told


def test_equal_commands_make_their_report_one_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    other = FolderLock(tmp_path / "sweeps/.report.lock", timeout=0)
    with execute.one_at_a_time(tmp_path), pytest.raises(Timeout):
        other.acquire()
    with other.acquire():
        pass
    with execute.one_at_a_time(tmp_path / "gone"):
        assert not (tmp_path / "gone").exists(), "a folder that was removed does not come back"


def test_runs_of_other_commands_are_plotted_unless_those_did(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that trained them may have been killed before."""
    runs = [new_run(tmp_path), new_run(tmp_path)]

    def run(runs: Sequence[Run], on_end: OnEnd, before: Sequence[Run]) -> None:
        for each in runs:
            record_training(each, 0.5)
        on_end(runs[0])

    monkeypatch.setattr(recorder, "run", run)
    assert executed(*runs, plan=plan_of(*runs)) == 0
    assert recorder.calls == ["follow", "follow", "plot", "plot", "compare", "close"]
