"""The real command `compare`: what can be selected, where the report goes, and the exit status."""

import json
import re
import shlex
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.commands.compare import MOST_ROWS, terminal_table
from harness.runfolder import streams
from harness.runfolder.folder import runs_folder
from harness.tracking import selection
from harness.tracking.recorded import Journals
from tests.analysis.conftest import build, make_run
from tests.conftest import Command, command_in

OWN = ("dataset.num_val=40", "epochs=3", "width=8", "lr=0.5")


def test_the_terminal_shows_the_ranking(tmp_path: Path) -> None:
    recorded = [make_run(tmp_path, batch, seed) for batch in (5, 6, 30) for seed in (1, 2)]
    table = terminal_table(build(tmp_path, *recorded))
    titles = [column.header for column in table.columns]
    assert titles == [
        "", "batch", "n", "val error, best epoch", "last epoch", "test error", "chosen run [95 %]",
        "p", "seeds to tell", "seconds",
    ]  # fmt: skip
    assert [column.justify for column in table.columns] == ["left"] * 2 + ["right"] * 8
    cells = [list(column.cells) for column in table.columns]
    assert cells[0][0] == "*"
    assert cells[1] == ["5", "6", "30"]
    assert cells[3][0] == "5.15 ± 0.07 %"
    assert [row.style for row in table.rows] == ["bold", None, None]
    assert table.caption is None


def test_80_columns_show_numbers_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = [make_run(tmp_path, batch, seed) for batch in (5, 6, 30) for seed in (1, 2)]
    table = terminal_table(build(tmp_path, *recorded))
    streams.console(width=80).print(table)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    columns = [list(column.cells) for column in table.columns]
    for batch, best, test in zip(columns[1], columns[3], columns[5], strict=True):
        (line,) = [line for line in shown.splitlines() if str(best) in line]
        assert f" {batch} " in line
        assert str(test) in line
    assert "seeds to tell, seconds; a wider terminal" in " ".join(shown.split())


def test_the_terminal_shows_the_first_settings_only(tmp_path: Path) -> None:
    comparison = build(tmp_path, make_run(tmp_path, 5, 1))
    many = replace(comparison, standings=[*comparison.standings] * (MOST_ROWS + 1))
    table = terminal_table(many)
    assert table.row_count == MOST_ROWS
    assert table.caption == f"the first {MOST_ROWS} of {MOST_ROWS + 1} settings"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, idx_folder: Path) -> Path:
    """A folder with a real sweep of 2 batch sizes x 3 seeds, and a single run beside it."""
    folder = tmp_path_factory.mktemp("swept")
    command = command_in(folder)
    own = ("dataset=idx", f"dataset.dir={idx_folder}", *OWN)
    done = command("harness.run", "-m", *own, "batch=10,40", "seed=1,2,3")
    assert done.returncode == 0, done.stderr
    assert re.search(r"report: +outputs/reports/\w{10}/index.html", done.stdout)
    assert command("harness.run", *own, "batch=20").returncode == 0
    return folder


def content(folder: Path, name: str) -> dict[str, object]:
    report: dict[str, object] = json.loads(
        (folder / "outputs/reports" / name / "report.json").read_text()
    )
    return {key: report[key] for key in ("answer", "settings", "runs", "pairs", "notes")}


@pytest.mark.service
def test_mlflow_and_the_journals_give_the_same_report(swept: Path) -> None:
    (report,) = (swept / "outputs/reports").glob("[0-9a-f]*")
    journals = content(swept, report.name)
    before = (report / "index.html").stat().st_mtime_ns
    done = command_in(swept)("harness", "compare")
    assert (done.returncode, done.stderr) == (0, "")
    assert (report / "index.html").stat().st_mtime_ns > before
    assert content(swept, report.name) == journals
    assert len(journals["runs"]) == 6  # type: ignore[arg-type]
    assert f"report/{report.name}" in done.stdout
    attached = list(
        (swept / "outputs/artifacts").glob(f"*/*/artifacts/report/{report.name}/index.html")
    )
    assert len(attached) == 1
    assert attached[0].read_text() == (report / "index.html").read_text()


@pytest.mark.service
def test_what_can_be_selected(swept: Path) -> None:
    command = command_in(swept)
    done = command("harness", "compare", "idx", "--no-attach")
    assert done.returncode == 0
    assert len(content(swept, "experiment-idx")["runs"]) == 7  # type: ignore[arg-type]
    done = command("harness", "compare", "params.batch = '20'", "--no-attach")
    assert done.returncode == 0
    ids = [path.name for path in (swept / "outputs/runs").iterdir() if path.is_dir()][:3]
    done = command("harness", "compare", *(i[:6] for i in ids), "--no-attach")
    assert done.returncode == 0
    assert len(list((swept / "outputs/reports").glob("runs-*"))) == 1


@pytest.mark.service
def test_costs_of_any_runs_from_journals_and_mlflow(swept: Path) -> None:
    command, uri = command_in(swept), f"sqlite:///{swept}/outputs/mlflow.db"
    costs = ("--cost", "parameters", "--cost", "time/epoch_s:min", "--cost", "val/loss:max")
    found = []
    for where in ((), ("--uri", uri)):
        done = command("harness", "compare", "idx", *costs, *where, "--no-attach", "--json")
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["settings"])
    assert found[0] == found[1], "a metric of the end, a mean over epochs, and one of an epoch"
    assert {row["parameters_mean"] for row in found[0]} == {30 * 8 + 8 + 8 * 4 + 4}
    assert any(row["on_front"] for row in found[0])


@pytest.mark.service
def test_two_objectives_are_two_comparisons(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    """The line about what was left out has the command that compares it."""
    own = ("dataset=idx", f"dataset.dir={idx_folder}", *OWN)
    both = ("batch=10,40", "seed=1,2", "objective=val/loss,val/error")
    done = command("harness.run", "-m", *own, *both)
    assert done.returncode == 0, done.stderr
    done = command("harness", "compare")
    assert done.returncode == 0, done.stderr
    assert "val loss, best epoch" in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if "left out" in line]
    again = command("harness", *shlex.split(line.partition("python -m harness ")[2]))
    assert again.returncode == 0, again.stderr
    assert "val error, best epoch" in again.stdout
    assert "objective" not in again.stderr


@pytest.mark.service
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nonsense"], "'nonsense' is not a sweep, an experiment, a name or a run in "),
        (["params.batch ="], "'params.batch =' is not a filter: it ends too early; expected "),
        (["--cost", "paramters"], "--cost paramters: expected one of "),
        (["--cost", "val/f1"], "--cost val/f1: its name suggests that higher is better; type --"),
        (["--cost", "test/error"], "--cost test/error: the test set is read once, after training"),
        (["--cost", "parameters", "--metric", "val/loss"], "--cost parameters: only for runs of"),
        (["params.batch = '7'"], "filter params.batch = '7': there are no runs to compare\n"),
        (
            ["params.loss = 'm:L'"],
            "params.loss: none of 7 runs has it; did you mean 'loss.name'?",
        ),
    ],
)
def test_bad_words_exit_2(swept: Path, words: list[str], line: str) -> None:
    done = command_in(swept)("harness", "compare", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: " + line)
    assert done.stderr.count("\n") == 1


@pytest.mark.service
def test_no_results_yet_exit_2(command: Command) -> None:
    done = command("harness", "compare")
    assert done.returncode == 2
    assert "no sweep yet; start one with " in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.service
def test_a_sweep_without_mlflow_is_compared_from_its_journals(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", *OWN, "tracking=none")
    assert command("harness.run", "-m", *own, "batch=10,40").returncode == 0
    begin = time.monotonic()
    done = command("harness", "compare")
    assert (done.returncode, done.stderr) == (0, ""), time.monotonic() - begin
    assert not (tmp_path / "outputs/mlflow.db").exists()
    chosen = selection.select(tmp_path / "outputs", [], None)
    assert isinstance(chosen.source, Journals)
    assert runs_folder(tmp_path / "outputs").is_dir()


@pytest.mark.service
def test_a_sweep_is_whole_wherever_its_runs_were_delivered(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", *OWN)
    first = command("harness.run", "-m", *own, "batch=10,40", "seed=1,2")
    assert first.returncode == 0, first.stderr
    more = ("batch=10,20,40", "seed=1,2", "tracking.experiment=study1")
    done = command("harness.run", "-m", *own, *more)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished before as") == 4
    rows = [line.split() for line in done.stdout.splitlines() if "FINISHED" in line]
    batches = [[cell for cell in row if cell not in "*=+"][:2] for row in rows]
    assert sorted(batches) == [["10", "2"], ["20", "2"], ["40", "2"]]
    sweep = selection.newest_sweep(tmp_path / "outputs")
    for words in ((), ("--uri", f"sqlite:///{tmp_path}/outputs/mlflow.db")):
        report = content(tmp_path, sweep)
        assert len(report["runs"]) == 6  # type: ignore[arg-type]
        assert len(report["settings"]) == 3  # type: ignore[arg-type]
        compared = command("harness", "compare", sweep, "--no-attach", *words)
        assert (compared.returncode, compared.stderr) == (0, "")
    assert len(content(tmp_path, sweep)["runs"]) == 6  # type: ignore[arg-type]
    alone = command("harness", "compare", "study1", "--no-attach")
    assert f"note: 4 more runs of sweep {sweep} are in experiment 'idx'" in alone.stderr
