"""`sync`: which runs go to which store, what is sent again, and the exit status."""

import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import Timeout

from harness.commands import sync as command
from harness.commands.clean import clean
from harness.commands.du import du
from harness.commands.gc import gc
from harness.data import extraction
from harness.runfolder import liveness
from harness.runfolder.journal import Journal
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.tracking import sync as syncing
from harness.tracking.delivery import Report
from harness.tracking.errors import StoreError
from harness.tracking.sync import Proof
from tests.conftest import new_run, record_training

SERVER = ("tracking=server", "tracking.uri=http://host:5000")


class Store:
    """Stands for MLflow: `lost` runs differ until they are sent again."""

    def __init__(self) -> None:
        self.report = Report()
        self.lost: set[str] = set()
        self.sent: list[str] = []
        self.targets: list[Target] = []
        self.error: StoreError | None = None
        self.seconds = 0.0

    def deliver(self, target: Target, runs: list[Run], *, relocate: bool = False) -> Report:
        self.targets.append(target)
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        if self.sent:
            self.lost -= set(self.sent)
        return self.report

    def prove(self, target: Target, runs: list[Run], **options: bool) -> list[Proof]:
        return [Proof(run.id, 5, ("rows",) if run.id in self.lost else ()) for run in runs]

    def send_again(self, target: Target, runs: list[Run]) -> None:
        self.sent += [run.id for run in runs]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    for name in ("deliver", "prove", "send_again"):
        monkeypatch.setattr(syncing, name, getattr(store, name))
    return store


def sync(outputs: Path) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command."""
    result = CliRunner().invoke(command.sync, ["--outputs", str(outputs)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_nothing_to_deliver_is_0(tmp_path: Path, store: Store) -> None:
    new_run(tmp_path, "tracking=none")
    assert sync(tmp_path) == (0, f"{tmp_path}: there is nothing to deliver\n", "")
    assert store.targets == []


def test_a_mistyped_folder_is_2(tmp_path: Path, store: Store) -> None:
    for each in (command.sync, clean, du, gc):
        result = CliRunner().invoke(each, ["--outputs", str(tmp_path / "output")])
        assert (result.exit_code, result.stdout) == (2, "")
        expected = f"error: --outputs {tmp_path}/output: there is no such folder; give the one that"
        assert result.stderr.startswith(expected)


def test_a_run_of_a_sweep_whose_folder_is_gone_is_named(tmp_path: Path, store: Store) -> None:
    runs = [record_training(new_run(tmp_path), 0.5) for _ in range(2)]
    jobs = tuple(SweepJob(run.id, f"seed={i}", {}, "k") for i, run in enumerate(runs))
    Plan("xaaaaaaaaa", ("-m",), jobs).save(tmp_path)
    assert sync(tmp_path)[2] == ""
    shutil.rmtree(runs[1].folder)
    status, out, err = sync(tmp_path)
    assert status == 0
    assert "1 of 1 runs delivered in full" in out
    assert err.startswith(
        f"not here: seed=1 ({runs[1].id}) of sweep xaaaaaaaaa: its folder is gone"
    )


def test_what_was_delivered_and_what_was_trained_are_told_apart(
    tmp_path: Path, store: Store
) -> None:
    record_training(new_run(tmp_path), 0.5)
    for status in (RunStatus.KILLED, RunStatus.FAILED):
        with Journal(new_run(tmp_path).journal) as writer:
            writer.append("start", host="elsewhere", pid=1, threads=1, backend="numpy")
            writer.append("end", status=status, error="interrupted")
    new_run(tmp_path)
    status, out, _ = sync(tmp_path)
    uri = Target.local(tmp_path).uri
    line = "4 of 4 runs delivered in full, 20 metric rows compared, 3 not trained to the end"
    assert (status, out) == (0, f"{uri}: {line}\n")


def test_each_store_gets_its_runs(tmp_path: Path, store: Store) -> None:
    for overrides in ((), SERVER, ("tracking=none",), ()):
        record_training(new_run(tmp_path, *overrides), 0.5)
    status, out, _ = sync(tmp_path)
    assert status == 0
    local = Target.local(tmp_path)
    assert {target.key for target in store.targets} == {"local", "http://host:5000"}
    assert f"{local.uri}: 2 of 2 runs delivered in full, 10 metric rows compared\n" in out
    assert "http://host:5000: 1 of 1 runs delivered in full, 5 metric rows compared\n" in out


def test_what_the_store_lost_is_sent_again(tmp_path: Path, store: Store) -> None:
    runs = [record_training(new_run(tmp_path), 0.5) for _ in range(2)]
    store.lost = {runs[1].id}
    status, out, err = sync(tmp_path)
    assert (status, err) == (0, "")
    assert store.sent == [runs[1].id]
    assert "sending 1 runs again" in out
    assert "2 of 2 runs delivered in full" in out


def test_an_undelivered_run_is_3(tmp_path: Path, store: Store) -> None:
    runs = [record_training(new_run(tmp_path), 0.5) for _ in range(2)]
    store.report = Report(undelivered={runs[0].id: "the server is down"})
    status, out, err = sync(tmp_path)
    assert status == 3
    assert f"not delivered yet: {runs[0].id}: the server is down\n" in err
    assert "1 of 2 runs delivered in full" in out


def test_a_refused_record_is_3(tmp_path: Path, store: Store) -> None:
    run = record_training(new_run(tmp_path), 0.5)
    store.report = Report(refused={run.id: 2})
    status, _, err = sync(tmp_path)
    assert status == 3
    assert f"{run.id}: the store refused 2 records" in err


def test_a_store_that_does_not_open_is_3_and_one_line(tmp_path: Path, store: Store) -> None:
    record_training(new_run(tmp_path), 0.5)
    store.error = StoreError("http://host:5000: no answer")
    assert sync(tmp_path) == (
        3, "", "http://host:5000: no answer\nnot delivered yet: 1 runs\n",
    )  # fmt: skip


def test_what_takes_long_is_said(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a server that never answers."""
    record_training(new_run(tmp_path), 0.5)
    line = f"{Target.named('local', tmp_path)}: delivering 1 run(s)\n"
    assert line not in sync(tmp_path)[1]
    monkeypatch.setattr(command, "SILENT_S", 0.01)
    store.seconds = 1.0
    assert line in sync(tmp_path)[1]


def test_a_live_run_is_not_compared(tmp_path: Path, store: Store) -> None:
    run = new_run(tmp_path)
    with run.writing() as journal:
        journal.append("start", **liveness.this_process(), threads=1, backend="numpy")
        status, out, _ = sync(tmp_path)
    assert status == 0
    assert "0 of 1 runs delivered in full, 0 metric rows compared, 1 still running" in out


def test_a_live_run_of_which_a_part_is_not_delivered_is_3(tmp_path: Path, store: Store) -> None:
    run = new_run(tmp_path)
    store.report = Report(undelivered={run.id: "the server is down"})
    with run.writing() as journal:
        journal.append("start", **liveness.this_process(), threads=1, backend="numpy")
        status, out, err = sync(tmp_path)
    assert status == 3
    assert f"not delivered yet: {run.id}: the server is down\n" in err
    assert "0 of 1 runs delivered in full, 0 metric rows compared, 1 still running" in out


def test_dead_runs_are_closed_first(tmp_path: Path, store: Store) -> None:
    run = new_run(tmp_path)
    start = liveness.this_process() | {"process_started": 1.0}
    with run.writing() as journal:
        journal.append("start", **start, threads=1, backend="numpy")
    status, out, _ = sync(tmp_path)
    assert status == 0
    assert f"{run.id}: its process died without an end record; closed as KILLED\n" in out
    assert run.status is RunStatus.KILLED


def test_with_verify_the_cache_is_compared(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was damaged and is right again is told; what stays damaged gives 3."""
    for left, expected in (([], 0), (["x is damaged"], 3)):
        answers = iter([["x is damaged"], left])
        monkeypatch.setattr(extraction, "verify", lambda cache, answers=answers: next(answers))
        result = CliRunner().invoke(command.sync, ["--outputs", str(tmp_path), "--verify"])
        assert (result.exit_code, result.stderr) == (expected, "x is damaged\n")


def test_a_run_that_stays_where_it_is_is_not_said_to_be_delivered_elsewhere(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [new_run(tmp_path, *SERVER) for _ in range(2)]

    def bind(run: Run, target: Target) -> None:
        if run == runs[0]:
            raise Timeout(str(run.folder / ".lock"))

    monkeypatch.setattr(Run, "bind", bind)
    monkeypatch.setattr(syncing, "check", lambda target: None)
    words = ["--outputs", str(tmp_path), "--to", "http://new:5000"]
    done = CliRunner().invoke(command.sync, words)
    assert "1 runs are delivered to http://new:5000 from now on" in done.stdout
    assert f"{runs[0].id}: stays where it is" in done.stderr
    assert done.exit_code == 3
