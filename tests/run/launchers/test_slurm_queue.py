"""The queue of Slurm jobs: what is asked for, and the states that `squeue` prints."""

import json
import subprocess
from pathlib import Path
from typing import Literal

import pytest

from harness.run.launchers import slurm, slurm_queue
from harness.run.launchers.slurm_queue import NONE, QUEUED, Queue, one_line, resources
from harness.runfolder.run import Run
from tests.conftest import new_run
from tests.run.launchers.test_choose import slurm_settings


class Squeue:
    """Stands for `squeue`; counts its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[str] | None = []
        self.calls: list[list[str]] = []
        monkeypatch.setattr(subprocess, "run", self._run)
        monkeypatch.setattr(slurm_queue, "SQUEUE_S", -1.0)  # ask each time

    def _run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        code = 1 if self.lines is None else 0
        return subprocess.CompletedProcess(command, code, "\n".join(self.lines or []), "")


@pytest.fixture
def squeue(monkeypatch: pytest.MonkeyPatch) -> Squeue:
    return Squeue(monkeypatch)


@pytest.fixture
def queued(tmp_path: Path) -> Run:
    run = new_run(tmp_path)
    (run.folder / QUEUED).write_text(json.dumps({"name": "harness-abc", "task": "3"}))
    return run


def queue_in(folder: Path) -> Queue:
    return Queue(slurm_settings(), folder / "submitit", lambda path, pause: (path, pause))


def test_resources_are_sbatchs_names_without_what_the_cluster_decides() -> None:
    settings = slurm_settings("hydra.launcher.mem_gb=1.5", "hydra.launcher.partition=gpu")
    assert resources(settings) == {"partition": "gpu", "mem": "1536M", "cpus_per_task": 1}
    assert resources(slurm_settings("hydra.launcher.mem_gb=null")) == {"cpus_per_task": 1}


def test_sbatchs_errors_are_one_line() -> None:
    assert one_line("sbatch: error: a\nsbatch: error: b\n") == "a; b"


def test_a_run_that_was_never_queued_has_no_job(tmp_path: Path, squeue: Squeue) -> None:
    assert queue_in(tmp_path).state(new_run(tmp_path)) == NONE
    assert squeue.calls == [], "squeue is not asked"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("PENDING", None), ("RUNNING", None), ("REQUEUED", None), ("COMPLETING", None),
        ("COMPLETED", "COMPLETED"), ("CANCELLED", "CANCELLED"), ("TIMEOUT", "TIMEOUT"),
        ("OUT_OF_MEMORY", "OUT_OF_MEMORY"),
    ],
)  # fmt: skip
def test_the_state_of_a_job(
    tmp_path: Path, queued: Run, squeue: Squeue, state: str, expected: str | None
) -> None:
    squeue.lines = ["harness-abc|2|7_2|FAILED", f"harness-abc|3|7_3|{state}"]
    assert queue_in(tmp_path).state(queued) == expected


def test_a_job_that_slurm_has_forgotten_is_none(
    tmp_path: Path, queued: Run, squeue: Squeue
) -> None:
    assert queue_in(tmp_path).state(queued) == NONE


def test_without_an_answer_the_last_known_state_counts(
    tmp_path: Path, queued: Run, squeue: Squeue
) -> None:
    queue = queue_in(tmp_path)
    squeue.lines = None
    assert queue.state(queued) is None, "nothing is known: the job may run"
    squeue.lines = ["harness-abc|3|7_3|COMPLETED"]
    assert queue.state(queued) == "COMPLETED"
    squeue.lines = None
    assert queue.state(queued) == "COMPLETED"


def test_a_job_is_cancelled_by_its_number(tmp_path: Path, queued: Run, squeue: Squeue) -> None:
    squeue.lines = ["harness-abc|3|7_3|RUNNING"]
    queue = queue_in(tmp_path)
    queue.state(queued)
    assert queue.cancel(queued)
    assert squeue.calls[-1] == ["scancel", "7_3"]


def test_a_large_sweep_is_several_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[list[object]] = []

    class Executor:
        def submit_array(self, tasks: list[object]) -> None:
            submitted.append(tasks)

    monkeypatch.setattr(slurm_queue, "ARRAY", 2)
    monkeypatch.setattr(Queue, "_executor", lambda self, name: Executor())
    runs = [new_run(tmp_path) for _ in range(3)]
    queue_in(tmp_path).submit(runs, 9)
    folders = [run.folder.resolve() for run in runs]
    assert submitted == [[(folders[0], 9), (folders[1], 9)], [(folders[2], 9)]]
    jobs = [json.loads((run.folder / QUEUED).read_text()) for run in runs]
    assert [job["task"] for job in jobs] == ["0", "1", "N/A"], "a single job is no array"
    assert jobs[0]["name"] == jobs[1]["name"] != jobs[2]["name"]


def test_what_another_command_has_submitted_is_not_submitted_again(
    tmp_path: Path, squeue: Squeue, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[object] = []

    class Executor:
        def __init__(self, name: str) -> None:
            self.name = name

        def submit_array(self, tasks: list[object]) -> None:
            submitted.extend(tasks)
            squeue.lines = [f"{self.name}|N/A|7|PENDING"]

    monkeypatch.setattr(Queue, "_executor", lambda self, name: Executor(name))
    run = new_run(tmp_path)
    first, second = queue_in(tmp_path), queue_in(tmp_path)
    assert (first.state(run), second.state(run)) == (NONE, NONE), "both begin at once"
    first.submit([run])
    second.submit([run])
    assert submitted == [(run.folder.resolve(), None)]
    assert second.state(run) is None, "it follows that job"
    squeue.lines = []
    second.submit([run])
    assert len(submitted) == 2, "that one is over"


def test_a_job_is_cancelled_although_another_thread_has_just_submitted_one(
    tmp_path: Path, queued: Run, squeue: Squeue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was known of the queue is forgotten then, and the job would train to its end."""
    squeue.lines = ["harness-abc|3|7_3|RUNNING"]
    monkeypatch.setattr(slurm, "POLL_S", 0.0)
    launcher = slurm.Slurm(slurm_settings(), tmp_path)

    def run(command: list[str], **named: object) -> subprocess.CompletedProcess[str]:
        done = squeue._run(command, **named)
        if command[0] == "scancel":
            squeue.lines = ["harness-abc|3|7_3|CANCELLED"]
        assert len(squeue.calls) < 20, "it is waited for in vain"
        return done

    def decide() -> Literal["end"]:
        launcher._queue._states = None  # as `submit` does
        return "end"

    monkeypatch.setattr(subprocess, "run", run)
    launcher.attend(queued, decide)
    assert squeue.calls.count(["scancel", "7_3"]) == 1
