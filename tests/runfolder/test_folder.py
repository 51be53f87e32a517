"""The folder of all runs: creating, listing, finding and closing them."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from harness.runfolder import folder as folders
from harness.runfolder import journal, liveness
from harness.runfolder.folder import (
    Ambiguous,
    all_runs,
    broken_runs,
    close_dead,
    find,
    readable_runs,
)
from harness.runfolder.frozen_config import read_yaml
from harness.runfolder.journal import Journal
from harness.runfolder.run import REPRODUCES, Run
from harness.runfolder.status import RunStatus
from tests.conftest import DATASET, ROOT, new_run, record_training, wait_for
from tests.runfolder.test_liveness import PRINT_START


def empty_folder(outputs: Path, name: str) -> Path:
    """A folder with the files of a run, both empty."""
    folder = outputs / "runs" / name
    folder.mkdir(parents=True)
    for file in (journal.FILE_NAME, "config.yaml"):
        (folder / file).touch()
    return folder


def started_run(outputs: Path, start: dict[str, object]) -> Run:
    run = new_run(outputs)
    with run.writing() as writer:
        writer.append("start", **start, threads=1, backend="numpy")
    return run


def test_a_new_run_has_its_config_and_its_first_record(tmp_path: Path) -> None:
    run = new_run(tmp_path, "batch=64", name="batch=64", sweep="s")
    assert run.folder.parent == tmp_path / "runs"
    assert read_yaml(run.folder / "config.yaml").batch == 64
    create = run.history().create
    assert (create["run"], create["name"], create["dataset"]) == (run.id, "batch=64", DATASET)
    assert (create["params"]["batch"], create["experiment"]) == (64, "mnist")
    assert create["tags"] == {"run.id": run.id, "run_key": "key", "sweep": "s"}
    assert run.status is RunStatus.CREATED


def test_a_creation_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "fsync_folder", full)
    with pytest.raises(OSError, match="No space"):
        new_run(tmp_path)
    assert list((tmp_path / "runs").iterdir()) == []


def test_hidden_folders_and_files_are_not_runs(tmp_path: Path) -> None:
    assert all_runs(tmp_path) == []
    assert broken_runs(tmp_path) == []
    run = new_run(tmp_path)
    shutil.copytree(run.folder, tmp_path / "runs/.abc124")
    (tmp_path / "runs/notes.txt").touch()
    assert [each.id for each in all_runs(tmp_path)] == [run.id]
    assert broken_runs(tmp_path) == []


def test_what_no_command_can_use_is_named_and_the_rest_is_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [new_run(tmp_path) for _ in range(6)]
    (runs[0].folder / "config.yaml").unlink()
    runs[1].journal.unlink()
    runs[2].journal.write_bytes(b"x" + runs[2].journal.read_bytes()[1:])
    config = runs[3].folder / "config.yaml"
    config.write_text(config.read_text().replace("batch: ", "batch: 1"))
    runs[4].journal.write_bytes(b"")
    broken = dict(broken_runs(tmp_path))
    assert set(broken) == {run.folder for run in runs[:5]}
    for run, file, reason in zip(
        runs,
        ("config.yaml", "journal.jsonl", "journal.jsonl", "config.yaml", "journal.jsonl"),
        ("No such file", "No such file", "checksum", "changed after", "create record"),
        strict=False,
    ):
        assert str(run.folder / file) in broken[run.folder]
        assert reason in broken[run.folder]
        assert "\n" not in broken[run.folder]
    with_journal = [runs[0].id, runs[3].id, runs[5].id]
    assert [run.id for run in all_runs(tmp_path)] == with_journal
    assert [run.id for run in readable_runs(tmp_path)] == with_journal
    for run in (runs[1], runs[2], runs[4]):
        assert str(run.journal) in caplog.text
        with pytest.raises(ValueError, match=f"{run.id}.journal"):
            find(tmp_path, run.id[:6])


def test_listing_runs_reads_their_first_records_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole journals took 0.8 s for 1,000 runs, several times in a command."""
    runs = [record_training(new_run(tmp_path), 0.5, 0.25) for _ in range(3)]
    damaged = bytearray(runs[1].journal.read_bytes())
    damaged[-3] ^= 1
    runs[1].journal.write_bytes(damaged)
    monkeypatch.setattr(Run, "history", lambda self: pytest.fail("the whole journal was read"))
    monkeypatch.setattr(yaml, "safe_load", lambda text: pytest.fail("a config was parsed"))
    assert all_runs(tmp_path) == runs
    assert broken_runs(tmp_path) == []
    assert find(tmp_path, "last") == runs[-1]


def test_a_run_that_is_removed_after_it_was_listed_is_damaged(tmp_path: Path) -> None:
    run = new_run(tmp_path, name="n")
    (listed,) = all_runs(tmp_path)
    shutil.rmtree(run.folder)
    history = listed.history()
    assert (history.name, history.status) == ("n", RunStatus.DAMAGED)
    assert close_dead(tmp_path) == []


def test_the_order_of_runs_survives_copying(tmp_path: Path) -> None:
    runs = [new_run(tmp_path / "a") for _ in range(3)]
    for run in reversed(runs):
        shutil.copytree(run.folder, tmp_path / "b/runs" / run.id, copy_function=shutil.copyfile)
    assert [run.id for run in all_runs(tmp_path / "b")] == [run.id for run in runs]


@pytest.mark.parametrize("later_s", [60, 0, -86_400])
def test_the_newest_run_is_the_last_when_the_clock_is_set_back(
    tmp_path: Path, later_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, now = new_run(tmp_path), time.time_ns()
    folders._newest.clear()  # another process
    monkeypatch.setattr(time, "time_ns", lambda: now + later_s * 1_000_000_000)
    second = new_run(tmp_path)
    assert [run.id for run in all_runs(tmp_path)] == [first.id, second.id]
    assert find(tmp_path, "last") == second


def test_the_newest_run_is_the_last_whatever_the_time_zone(tmp_path: Path) -> None:
    """Tokyo is 14 hours ahead of New York."""
    ids = []
    code = (
        "import sys; from pathlib import Path; from tests.conftest import new_run\n"
        "print(new_run(Path(sys.argv[1])).id)"
    )
    for zone in ("Asia/Tokyo", "America/New_York"):
        command = [sys.executable, "-c", code, str(tmp_path)]
        ids.append(
            subprocess.run(
                command, cwd=ROOT, env=os.environ | {"TZ": zone}, check=True, text=True,
                stdout=subprocess.PIPE,
            ).stdout.strip()
        )  # fmt: skip
    assert find(tmp_path, "last").id == ids[1]
    assert abs(int(ids[1][-6:-2]) - int(ids[0][-6:-2])) in (0, 1, 41, 2359), "both are in UTC"


def test_a_run_of_version_0_1_has_its_place_by_its_time(tmp_path: Path) -> None:
    names = ["cccccc-20260103-120000", "aaaaaa-20260101-120000"]
    for name in names:
        folder = empty_folder(tmp_path, name)
        with Journal(folder / journal.FILE_NAME) as writer:
            writer.append("create", run=name, name="n", params={}, tags={})
        time.sleep(0.002)
    run = new_run(tmp_path)
    assert [each.id for each in all_runs(tmp_path)] == [*names, run.id]


def test_a_run_is_found_by_a_prefix(tmp_path: Path) -> None:
    first, second = new_run(tmp_path), new_run(tmp_path)
    assert find(tmp_path, first.id).id == find(tmp_path, first.id[:6]).id == first.id
    (second.folder / "delivered.json").write_text(json.dumps({"mlflow_id": "xyz123"}))
    assert find(tmp_path, "xyz").id == second.id
    with pytest.raises(ValueError, match="run 'zzz' is not among the 2 runs"):
        find(tmp_path, "zzz")
    with pytest.raises(ValueError, match=r"run '' could be .*, .*; type more of it"):
        find(tmp_path, "")
    with pytest.raises(ValueError, match="run 'None' is not among"):  # not delivered
        find(tmp_path, "None")


def test_several_runs_of_a_prefix_are_named(tmp_path: Path) -> None:
    runs = [new_run(tmp_path)]
    with pytest.raises(Ambiguous, match=f"run '' could be {runs[0].id}; type more of it"):
        find(tmp_path, "")
    runs += [new_run(tmp_path) for _ in range(6)]
    with pytest.raises(Ambiguous, match=r"run '' could be (\S+, ){4}\S+ and 2 more; type"):
        find(tmp_path, "")
    for run in runs[:2]:
        (run.folder / "delivered.json").write_text(json.dumps({"mlflow_id": f"x{run.id}"}))
    with pytest.raises(Ambiguous, match=rf"{runs[0].id} \(in MLflow x{runs[0].id}\)"):
        find(tmp_path, "x")


def test_the_last_run_is_the_newest_that_reproduces_no_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run 'last' is not among the 0 runs"):
        find(tmp_path, "last")
    for name in ("aaaaaa-20260101-120000", "bbbbbb-20260102-120000", "cccccc-20260103-120000"):
        folder = empty_folder(tmp_path, name)
        tags = {REPRODUCES: "aaaaaa"} if name.startswith("c") else {}
        with Journal(folder / journal.FILE_NAME) as writer:
            writer.append("create", run=name, name="n", params={}, tags=tags)
    assert find(tmp_path, "last").id == "bbbbbb-20260102-120000"


def test_a_run_whose_process_died_without_an_end_record_is_closed(tmp_path: Path) -> None:
    """Its pid may belong to another process now."""
    run = started_run(tmp_path, liveness.this_process() | {"process_started": 1.0})
    with run.lock():
        assert close_dead(tmp_path) == [], "a process holds its lock"
    assert close_dead(tmp_path) == [run.id]
    assert close_dead(tmp_path) == []
    history = run.history()
    assert (history.status, history.error) == (
        RunStatus.KILLED, "its process died without an end record",
    )  # fmt: skip


def test_only_dead_runs_of_this_host_are_closed(tmp_path: Path) -> None:
    me = liveness.this_process()
    new_run(tmp_path)  # never started
    record_training(new_run(tmp_path), 0.5)
    started_run(tmp_path, me)
    started_run(tmp_path, me | {"host": "elsewhere", "process_started": 1.0})
    assert close_dead(tmp_path) == []


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    """In a container whose first process does not wait for orphans, an orphan stays a zombie."""
    with subprocess.Popen([sys.executable, "-c", PRINT_START], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        run = started_run(tmp_path, json.loads(process.stdout.read()))
        child = psutil.Process(process.pid)
        wait_for(lambda: child.status() == psutil.STATUS_ZOMBIE, 60)
        assert close_dead(tmp_path) == [run.id]
