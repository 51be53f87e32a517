"""The tables of runs and sweeps, from the journals."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from harness.commands.status import runs_table, sweeps_table
from harness.run.run_table import sweep_table
from harness.runfolder import liveness, streams
from harness.runfolder.plan import ENDED, NO_SEED, Plan, SweepJob, saved_plans
from tests.conftest import Command, new_run, record_training


def column(table: object, name: str) -> list[str]:
    """The cells of a column."""
    columns = table.columns  # type: ignore[attr-defined]
    return next([str(cell) for cell in each.cells] for each in columns if each.header == name)


def test_one_row_per_run(tmp_path: Path) -> None:
    finished = record_training(new_run(tmp_path, "epochs=2"), 0.5, 0.25)
    failed = record_training(new_run(tmp_path, "epochs=2"), 0.5, status="FAILED", error="why")
    created = new_run(tmp_path, "epochs=2")
    table = runs_table([finished, failed, created])
    assert column(table, "run id") == [finished.id, failed.id, created.id]
    assert column(table, "status") == ["FINISHED", "FAILED", "CREATED"]
    assert column(table, "epochs") == ["2/2", "1/2", "0/2"]
    assert column(table, "val error") == ["25.00%", "-", "-"]


def test_runs_of_several_objectives_name_theirs(tmp_path: Path) -> None:
    loss = record_training(new_run(tmp_path, "objective=val/loss"), 0.5, 0.25)
    table = runs_table([loss])
    assert (column(table, "val loss"), column(table, "test loss")) == (["0.25"], ["0.26"])
    error = record_training(new_run(tmp_path), 0.5)
    table = runs_table([loss, error])
    assert column(table, "objective") == ["val/loss", "val/error"]
    assert column(table, "value") == ["0.25", "50.00%"]
    assert column(table, "test") == ["0.26", "51.00%"]


def test_80_columns_have_room_for_ids_names_and_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        record_training(new_run(tmp_path, "epochs=2", name=f"batch=1{number},lr=0.001"), 0.5, 0.25)
        for number in range(3)
    ]
    Plan("0123456789", ("-m", "batch=10,11,12", "lr=0.001", "seed=range(1000,1010)"), ()).save(
        tmp_path
    )
    saved = [(*each, tmp_path) for each in saved_plans(tmp_path)]
    for table in (runs_table(runs), sweeps_table(saved)):
        streams.console(width=80).print(table)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for run in runs:
        (line,) = [line for line in shown.splitlines() if run.id in line]
        assert "FINISHED" in line
        assert "25.00%" in line
        assert "26.00%" in line
        assert run.create["name"][:16] in line
    assert "left out at this width: started, epoch, seconds;" in " ".join(shown.split())
    assert re.search(r"^ *0123456789 .* 0/0 ", shown, re.MULTILINE)


def test_a_running_run_without_its_process_is_shown_as_killed(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with run.writing() as journal:
        journal.append("start", **liveness.this_process(), threads=1, backend="numpy")
        size = run.journal.stat().st_size
        assert column(runs_table([run]), "status") == ["RUNNING"], "its lock is held"
    assert column(runs_table([run]), "status") == ["KILLED"]
    assert run.journal.stat().st_size == size, "status only reads"


@pytest.mark.parametrize(("is_paused", "word"), [(True, "PAUSED"), (False, "PRUNED")])
def test_a_run_that_its_search_ended_is_called_as_in_the_table_of_the_search(
    tmp_path: Path, *, is_paused: bool, word: str
) -> None:
    run = record_training(new_run(tmp_path), 0.5, status=None)
    run.mark_pruned(1, is_paused=is_paused)
    assert column(runs_table([run]), "status") == [word]
    assert column(sweep_table([run.history()], None), "status") == [word]


def test_one_row_per_sweep(tmp_path: Path) -> None:
    runs = [record_training(new_run(tmp_path), 0.5), new_run(tmp_path)]
    jobs = tuple(SweepJob(run.id, "n", {}, "k") for run in runs)
    Plan("aaaa", ("-m", "seed=1,2"), jobs).save(tmp_path)
    Plan("bbbb", ("-m", "seed=1"), (*jobs[:1], SweepJob("removed", "n", {}, "k"))).save(tmp_path)
    saved = sorted(saved_plans(tmp_path), key=lambda each: each[0])
    table = sweeps_table([(*each, tmp_path) for each in saved])
    assert column(table, "sweep") == ["aaaa", "bbbb"]
    assert column(table, "finished") == ["1/2", "1/2"]
    assert column(table, "best") == ["50.00%", "50.00%"]
    assert column(table, "test") == ["51.00%", "51.00%"]
    assert column(table, "command") == ["-m seed=1,2", "-m seed=1"]


@pytest.mark.parametrize(
    ("verdict", "finished"),
    [
        (f"not decided after 1 of 20 runs: max_jobs=9 {NO_SEED}; left: a, b", "1/1, stopped by a "
         "limit"),
        (f"budget=20s {ENDED} after 1 runs, before its 60 trials", "1/1, stopped by a limit"),
        ("not decided after 1 of 1 runs: all 3 seeds are used up; left: a, b", "1/1"),
        ("decided after 1 of 20 runs: a has the lowest validation error", "1/1"),
    ],
)  # fmt: skip
def test_work_that_a_limit_stopped_does_not_look_whole(
    tmp_path: Path, verdict: str, finished: str
) -> None:
    run = record_training(new_run(tmp_path), 0.5)
    plan = Plan("aaaa", ("-m",), (SweepJob(run.id, "n", {}, "k"),), verdict=verdict)
    assert column(sweeps_table([(0, plan, tmp_path)]), "finished") == [finished]


def test_the_command_lists_the_newest_runs(command: Command, tmp_path: Path) -> None:
    runs = [new_run(tmp_path / "outputs", name=f"seed={number}") for number in range(3)]
    done = command("harness", "status", "--limit", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert runs[0].id not in done.stdout
    assert done.stdout.index(runs[2].id) < done.stdout.index(runs[1].id), "newest first"
    empty = command("harness", "status", "--outputs", "nowhere")
    assert (empty.returncode, empty.stderr) == (0, "")
    assert empty.stdout.startswith("no runs in nowhere: train one with `python -m harness.run exp")


@pytest.mark.parametrize("name", ["status", "du"])
@pytest.mark.parametrize("limit", ["-3", "0", "2.5", "two", ""])
def test_a_limit_is_a_whole_number(command: Command, tmp_path: Path, name: str, limit: str) -> None:
    (tmp_path / "outputs").mkdir()
    done = command("harness", name, f"--limit={limit}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: --limit {limit}: expected a whole number of at least 1\n"
    assert command("harness", name, "--limit", "1").returncode == 0


def test_a_selection_restricts_runs_and_sweeps(command: Command, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    runs = [record_training(new_run(outputs), error) for error in (0.5, 0.25)]
    for name, run in zip(("aaaa", "bbbb"), runs, strict=True):
        Plan(name, ("-m", "seed=1"), (SweepJob(run.id, "n", {}, "k"),)).save(outputs)
    for words in (["bbbb"], ["metrics.val/error < 0.3", "since=1h"], [runs[1].id, "since=1h"]):
        shown = command("harness", "status", *words).stdout
        assert [name in shown for name in ("aaaa", "bbbb")] == [False, True]
        assert [run.id in shown for run in runs] == [False, True]
    assert "sweeps" in shown
    alone = record_training(new_run(outputs), 0.5)
    shown = command("harness", "status", alone.id).stdout
    assert (alone.id in shown, "sweep" in shown) == (True, False), "no table without rows"
    done = command("harness", "status", "nonsense")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    for words in (["since=2999-01-01"], ["--since", "2999-01-01"]):
        done = command("harness", "status", *words)
        assert (done.returncode, done.stdout) == (0, "no runs in outputs are since=2999-01-01\n")
    assert runs[1].id in command("harness", "status", "bbbb", "--since", "1h").stdout
    done = command("harness", "status", "--since", "soon")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_json_has_a_version(command: Command, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    runs = [record_training(new_run(outputs), 0.5, 0.25), new_run(outputs)]
    Plan("aaaa", ("-m", "seed=1"), (SweepJob(runs[0].id, "n", {}, "k"),)).save(outputs)
    content = json.loads(command("harness", "status", "--json").stdout)
    assert (content["format"], content["version"]) == ("harness status", 1)
    created, finished = content["runs"]
    assert (created["run"], created["status"], created["best"]) == (runs[1].id, "CREATED", None)
    assert created["ended"] is None
    assert (finished["best"], finished["best_epoch"], finished["test"]) == (0.25, 2, 0.26)
    (sweep,) = content["sweeps"]
    assert sweep["best_run"] == runs[0].id
    assert (sweep["jobs"], sweep["finished"], sweep["command"]) == (1, 1, ["-m", "seed=1"])
    assert sweep["verdict"] is None
    assert content["broken"] == []


def test_in_a_pipe_nothing_is_shortened(command: Command, tmp_path: Path) -> None:
    """Each run and each sweep is one line, however long its name or its command is."""
    name = ",".join(f"dataset.num_train={number}" for number in range(40))
    run = new_run(tmp_path / "outputs", name=name)
    words = tuple(f"optimizer.beta1=0.9{number}" for number in range(40))
    Plan("aaaa", words, (SweepJob(run.id, "n", {}, "k"),)).save(tmp_path / "outputs")
    shown = command("harness", "status").stdout
    (line,) = [line for line in shown.splitlines() if run.id in line]
    assert name in line
    (line,) = [line for line in shown.splitlines() if "aaaa" in line]
    assert " ".join(words) in line


def test_what_cannot_be_used_is_named_below_the_rest(command: Command, tmp_path: Path) -> None:
    runs = [new_run(tmp_path / "outputs") for _ in range(4)]
    jobs = tuple(SweepJob(run.id, "n", {}, "k") for run in runs)
    for name in ("aaaa", "bbbb"):
        Plan(name, ("-m", "seed=1,2"), jobs).save(tmp_path / "outputs")
    (tmp_path / "outputs/sweeps/bbbb.json").write_text("{")
    runs[0].journal.unlink()
    (runs[1].folder / "config.yaml").unlink()
    (runs[2].folder / "config.yaml").write_text("lr: 1\n")
    done = command("harness", "status")
    assert done.returncode == 0
    assert runs[3].id in done.stdout
    assert "aaaa" in done.stdout
    for run, file in zip(runs, ("journal.jsonl", "config.yaml", "config.yaml"), strict=False):
        lines = [line for line in done.stderr.splitlines() if run.id in line]
        assert [f"{run.id}/{file}: " in line for line in lines] == [True]
    assert "bbbb.json: not the plan of a sweep" in done.stderr
    assert len(done.stderr.splitlines()) == 4


def test_a_terminal_of_80_columns_tells_runs_of_long_commands_apart(tmp_path: Path) -> None:
    """One line each, also beside the runs of a sweep."""
    common = "dataset.num_train=500,epochs=3,optimizer=adam,width=512,depth=2"
    shown = {}
    for own, name in (
        ("lr=0.001,seed=1", "lr=0.001,seed=1,"),  # `…` may be on the next line
        ("lr=0.001,seed=2", "lr=0.001,seed=2,"),
        ("lr=0.002,seed=1", "lr=0.002,…"),
    ):
        typed = f"{common},{own}"
        run = new_run(tmp_path / "outputs", *typed.split(","), name=typed)
        shown[run.id] = name
    for seed in (1, 2):
        run = new_run(tmp_path / "outputs", f"seed={seed}", name=f"seed={seed}")
        shown[run.id] = f"seed={seed}"
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "harness", "status"], stdout=terminal, cwd=tmp_path,
        env=os.environ | {"COLUMNS": "80", "TERM": "dumb", "PYTHONUTF8": "1"},
    ) as process:  # fmt: skip
        os.close(terminal)
        lines = read_all(controller).splitlines()
        assert process.wait() == 0
    assert max(map(len, lines)) <= 80
    for run_id, name in shown.items():
        (line,) = [line for line in lines if run_id in line]
        assert name in line.split()


def read_all(controller: int) -> str:
    """What is written to a terminal, until the program ends."""
    written = b""
    with suppress(OSError):  # the end of a terminal
        while read := os.read(controller, 65536):
            written += read
    os.close(controller)
    return written.decode()
