"""`--dry-run`: the jobs, what there is of them, the estimate; and that nothing is created.

Covers: harness/run/estimate.py
"""

from pathlib import Path

import pytest

from harness.run import freeze, notices, preview
from harness.run.compose import Job
from harness.run.estimate import Past, duration, makespan, megabytes
from harness.run.launcher_schema import BasicLauncher, JoblibLauncher, SlurmLauncher
from harness.run.preview import Planned
from harness.runfolder import keys
from harness.runfolder.artifacts import Artifact
from harness.runfolder.run import Run
from tests.conftest import RUN, Command, composed, record_training, small
from tests.run.test_freeze import job

TYPED = ["-m", "batch=20,30"]


@pytest.fixture
def jobs(tmp_path: Path, idx_folder: Path) -> list[Job]:
    return [job(tmp_path, idx_folder, batch, "epochs=4", "tracking=none") for batch in (20, 30)]


def planned(jobs: list[Job], *, accept: bool = False, reuse: bool = True) -> list[Planned]:
    return preview.planned(jobs, accept=accept, reuse=reuse)


def frozen(jobs: list[Job]) -> list[Run]:
    prepared = freeze.prepare(jobs)
    outputs = Path(jobs[0].config.outputs)
    return freeze.freeze_sweep(prepared, TYPED, fresh=False).runs(outputs)


def files(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_the_states_of_jobs(
    tmp_path: Path, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze.prepare(jobs)  # the cache is there, no run is
    assert [(row.state, row.epochs) for row in planned(jobs)] == [("new", 4), ("new", 4)]
    first, second = frozen(jobs)
    assert planned(jobs)[0].state == f"not started as {first.id}"
    record_training(first, 0.5, 0.4, 0.3, 0.2)
    record_training(second, 0.5, status="KILLED", error="interrupted")
    before = files(tmp_path)
    assert [(row.state, row.epochs, row.run) for row in planned(jobs)] == [
        (f"done as {first.id}", 0, first),
        (f"interrupted at epoch 1 of 4 as {second.id}", 3, second),
    ]
    assert [row.state for row in planned(jobs, reuse=False)] == ["new", "new"]
    assert files(tmp_path) == before
    with second.lock():
        assert planned(jobs)[1].state == f"being trained, at epoch 1 of 4 as {second.id}"
    record_training(second, 0.5, status="FAILED", error="why")
    assert planned(jobs)[1].state.startswith("failed at epoch 1 of 4")
    monkeypatch.setattr(keys, "source_digest", lambda: "edited")
    assert [row.state for row in planned(jobs)] == ["new", "new"]
    states = [row.state for row in planned(jobs, accept=True)]
    assert states == [f"done with other source as {first.id}", "new"]


def test_what_trains_again_is_named(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notices.say.cache_clear()
    record_training(frozen(jobs)[0], 0.5)
    monkeypatch.setattr(keys, "source_digest", lambda: "edited")
    planned(jobs)
    assert "were trained before with other source" in capsys.readouterr().err


def test_without_a_cache_it_is_not_known_what_is_done(
    tmp_path: Path, jobs: list[Job], idx_folder: Path
) -> None:
    text = preview.text(planned(jobs), BasicLauncher())
    assert text.splitlines() == [
        "2 job(s): 2 not known",
        "  batch=20  not known",
        "  batch=30  not known",
        f"dataset=idx in {idx_folder} is not in the cache yet: which of its jobs are done is not "
        "known, they are counted as new",
        f"no estimate: no finished run of the same data in {tmp_path}",
        "nothing was created",
    ]
    assert list(tmp_path.iterdir()) == []


def test_the_estimate(
    tmp_path: Path, jobs: list[Job], idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.5 s per epoch, as `record_training` writes."""
    monkeypatch.setenv("HARNESS_CORES", "2")
    first, second = frozen(jobs)
    record_training(first, 0.5, 0.4)
    (first.folder / "weights.bin").write_bytes(bytes(3_000_000))
    more = [
        *jobs,  # done; 4 epochs left, created already, and of another batch size
        job(tmp_path, idx_folder, 20, "epochs=6", "seed=7", "tracking=none", "lr=0.9"),
        job(tmp_path, idx_folder, 20, "epochs=4", "tracking=none", "dataset.num_train=100"),
    ]
    rows = planned(more)
    lines = preview.text(rows, BasicLauncher()).splitlines()
    assert lines[0] == "4 job(s): 1 done, 1 not started, 2 new"
    assert lines[5].startswith("estimate: about 5.0 s of training; 6.0 MB on disk, ")
    assert lines[6] == f"  without 1 job(s): no finished run of the same data in {tmp_path}"
    assert lines[8] == "  rough: 1 of 2 jobs differ from it, in batch"
    parallel = preview.text(rows, JoblibLauncher(name="joblib", n_jobs=2)).splitlines()
    assert "about 3.0 s of training, 2 jobs at once; " in parallel[5]
    slurm = SlurmLauncher(
        name="slurm", partition=None, account=None, qos=None, constraint=None, timeout_min=1,
        mem_gb=None, cpus_per_task=1, array_parallelism=9, signal_delay_s=1, max_num_timeout=1,
        setup=None,
    )  # fmt: skip
    text = preview.text(rows, slurm)
    assert "about 3.0 s of training, 3 jobs at once, without waiting in the queue; " in text
    (second.folder / "weights.bin").write_bytes(bytes(1_000_000))
    text = preview.text(rows, BasicLauncher())
    assert "; 5.0 MB on disk, " in text, "a run that is begun has some of its size"
    record_training(second, 0.5, 0.4, 0.3, 0.2)
    assert preview.text(planned(jobs), BasicLauncher()).splitlines()[3:] == [
        "estimate: nothing is left to train",
        "nothing was created",
    ]


def test_the_nearest_run_has_the_most_equal_settings(
    tmp_path: Path, jobs: list[Job], idx_folder: Path
) -> None:
    settings = (("width=16",), ("width=16", "seed=3"), ("width=32", "depth=2"))
    runs = [frozen([job(tmp_path, idx_folder, 20, "tracking=none", *each)])[0] for each in settings]
    for run in runs:
        record_training(run, 0.5)
    for number, run in enumerate(runs):
        (run.folder / "large").write_bytes(bytes(1000 * 10**number))
    past = Past(runs)
    found = past.nearest(jobs[0])
    assert found is not None
    assert found.different == ("width",)
    assert 10_000 < found.size < 100_000, "the newer of two equals"
    assert found.epoch_s == 0.5
    with runs[1].writing() as journal:
        journal.append("artifact", **Artifact("large", 10**9).record())
    local = Past(runs).nearest(job(tmp_path, idx_folder, 20, "tracking=local"))
    assert local is not None
    assert local.size > 10**9, "the store has a copy"
    assert past.nearest(Job("", {}, composed())) is None


def test_own_data_of_other_options_are_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_counted.py").write_text(
        "import numpy as np\n"
        "def data(*, count: int = 40):\n"
        "    x, y = np.eye(count, 3, dtype=np.float32), np.arange(count) % 2\n"
        "    return {'x_train': x, 'y_train': y, 'x_test': x, 'y_test': y}\n"
    )
    monkeypatch.chdir(tmp_path)

    def of(*overrides: str) -> Job:
        data = ("dataset=own_counted:data", "batch=5", "backend=numpy", "tracking=none")
        return Job("", {}, composed(*data, *overrides))

    (run,) = frozen([of()])
    record_training(run, 0.5)
    past = Past([run])
    for same in (of(), of("dataset.label=mine"), of("dataset.split_seed=3"), of("batch=7")):
        assert past.nearest(same) is not None
    assert past.nearest(of("dataset.count=50")) is None


def test_jobs_start_when_a_slot_is_free() -> None:
    assert makespan([3, 1, 1, 1], 2) == 3
    assert makespan([1, 1, 3], 2) == 4
    assert makespan([2, 2], 1) == 4
    assert makespan([2, 2], 8) == 2


def test_durations_and_sizes() -> None:
    assert [duration(s) for s in (0.04, 42, 90, 5400, 36_000, 200_000)] == [
        "about 0.0 s", "about 42 s", "about 1.5 min", "about 1.5 h", "about 10 h", "about 2.3 days",
    ]  # fmt: skip
    assert [megabytes(s) for s in (4_200_000, 123e6, 2.5e9)] == ["4.2 MB", "123 MB", "2.5 GB"]


@pytest.mark.parametrize("words", [[], ["-m", "seed=1,2"], ["-m", "sweep=optimizers", "seed=1"]])
def test_nothing_is_created(command: Command, tmp_path: Path, words: list[str]) -> None:
    done = command(RUN, "--dry-run", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("nothing was created\n")
    assert " new\n" in done.stdout, "the digest of MNIST is known without a cache"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--dry-run", "resume=last"], "resume continues one run"),
        (["--dry-run", "-m", "hydra/sweeper=optuna", "seed=1"], "a search chooses its jobs"),
        (["--dry-run", "batch=0"], "batch=0: expected"),
        (["--dry-run", "sweep=optimizers"], "add -m before it"),
        (["accept=source"], "accept=source: keeps finished runs of a repeated sweep; only a sweep"),
        (["-m", "accept=source", "hydra/sweeper=optuna", "seed=1"], "a search is refused when"),
    ],
)
def test_bad_input_is_one_line(
    command: Command, tmp_path: Path, words: list[str], problem: str
) -> None:
    done = command(RUN, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_preview_of_a_sweep_that_was_trained(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    words = small(idx_folder, "tracking=none", "epochs=2", "threads=1")
    assert command(RUN, "-m", *words, "seed=1,2").returncode == 0
    before = files(tmp_path)
    done = command(RUN, "-m", *words, "seed=1,2,3", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "3 job(s): 2 done, 1 new"
    assert lines[1].startswith("  seed=1  done as ")
    assert lines[3] == "  seed=3  new"
    assert lines[4].startswith("estimate: about 0.")
    assert files(tmp_path) == before
