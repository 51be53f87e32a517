"""Names, notes and questions: on a command, changed later, and where they are shown."""

import json
from pathlib import Path

import pytest

from harness.runfolder.about import NOTE, SWEEP_NAME, SWEEP_NOTE
from harness.runfolder.plan import Plan, SweepJob, load_plan, saved_plans
from harness.runfolder.run import Run
from tests.conftest import Command, new_run, record_training

SWEEP = "xaaaaaaaaa"


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """A sweep of two runs, an older one of one run, and a run by itself; without MLflow."""
    outputs = tmp_path / "outputs"
    made = [record_training(new_run(outputs, "tracking=none"), 0.5) for _ in range(4)]
    for name, its in (("xbbbbbbbbb", made[2:3]), (SWEEP, made[:2])):
        jobs = tuple(SweepJob(run.id, "n", {}, "k") for run in its)
        Plan(name, ("-m",), jobs).save(outputs)
    return made


def test_a_sweep_is_noted_as_a_whole(command: Command, runs: list[Run], tmp_path: Path) -> None:
    before = {plan.id: saved for saved, plan in saved_plans(tmp_path / "outputs")}
    done = command("harness", "note", SWEEP[:4], "too slow")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"sweep {SWEEP}: noted (2 run(s))\n"
    assert load_plan(tmp_path / "outputs", SWEEP).about.note == "too slow"
    assert [run.history().tags.get(SWEEP_NOTE) for run in runs] == ["too slow"] * 2 + [None] * 2
    after = {plan.id: saved for saved, plan in saved_plans(tmp_path / "outputs")}
    assert after == before, "the order of the sweeps stays"
    assert "too slow" in command("harness", "status").stdout


def test_a_report_that_is_there_shows_the_note(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    assert command("harness", "compare", SWEEP).returncode == 0
    done = command("harness", "note", SWEEP, "too slow")
    page = tmp_path / "outputs/reports" / SWEEP / "index.html"
    said, report = done.stdout.splitlines()
    assert (done.returncode, said) == (0, f"sweep {SWEEP}: noted (2 run(s))")
    assert report.split() == ["report:", str(page.relative_to(tmp_path))]
    assert "too slow" in page.read_text()
    page.with_name("settings.csv").unlink()
    page.with_name("settings.csv").mkdir()
    done = command("harness", "note", SWEEP, "fast")
    assert done.returncode == 0
    assert "\nno report: IsADirectoryError: " in done.stdout
    assert load_plan(tmp_path / "outputs", SWEEP).about.note == "fast"


def test_a_report_over_several_outputs_is_not_that_of_the_sweep(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    """A note, or the sweep's command, would write it again with the runs of one of them."""
    run = record_training(new_run(tmp_path / "server", "tracking=none", "seed=9"), 0.25)
    Plan(SWEEP, ("-m",), (SweepJob(run.id, "n", {}, "other"),)).save(tmp_path / "server")
    assert command("harness", "compare", SWEEP).returncode == 0
    done = command("harness", "compare", SWEEP, "--outputs", "outputs", "--outputs", "server")
    assert done.returncode == 0, done.stderr
    assert f"report: outputs/reports/{SWEEP}-joined/index.html" in done.stdout
    assert command("harness", "note", SWEEP, "too slow").returncode == 0
    folders = (tmp_path / "outputs/reports" / name for name in (SWEEP, f"{SWEEP}-joined"))
    reports = [json.loads((folder / "report.json").read_text()) for folder in folders]
    own, joined = ({row["run"] for row in report["runs"]} for report in reports)
    assert joined - own == {run.id}
    assert own <= {each.id for each in runs[:2]}
    assert [report["note"] for report in reports] == ["too slow", None]


def test_runs_are_noted_by_themselves(command: Command, runs: list[Run]) -> None:
    done = command("harness", "note", runs[0].id, runs[3].id, "odd")
    assert done.returncode == 0
    assert [run.history().tags.get(NOTE) for run in runs] == ["odd", None, None, "odd"]
    rows = json.loads(command("harness", "status", "--json").stdout)["runs"]
    assert {row["run"]: row["note"] for row in rows}[runs[3].id] == "odd"
    assert command("harness", "note", runs[3].id, "").stdout.endswith("note removed (1 run(s))\n")
    rows = json.loads(command("harness", "status", "--json").stdout)["runs"]
    assert {row["run"]: row["note"] for row in rows}[runs[3].id] is None


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([SWEEP], f"note {SWEEP}: the text is missing; type note SELECTION TEXT"),
        (["nonsense", "text"], "'nonsense' is no run, sweep, name"),
        (["since=2999-01-01", "text"], "there are no runs to note anything of"),
        ([SWEEP, "x" * 4001], "note=: expected at most 4000 characters"),
    ],
)
def test_bad_input_is_one_line(
    command: Command, runs: list[Run], words: list[str], problem: str
) -> None:
    done = command("harness", "note", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_from_the_command_to_mlflow_and_the_report(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    import mlflow

    own = ("dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40", "epochs=1", "width=8")
    said = ("name=pilot", "note=a note, with a comma", "question=Is 10 better than 40?")
    done = command("harness.run", "-m", *own, "batch=10,40", "seed=1,2", *said)
    assert done.returncode == 0, done.stderr
    (plan,) = (plan for _, plan in saved_plans(tmp_path / "outputs"))
    assert (plan.about.name, plan.about.asked_after) == ("pilot", 0)
    assert not any("note=" in text for text in plan.overrides)
    (page,) = (tmp_path / "outputs/reports").glob("*/index.html")
    for text in (f"sweep {plan.id} (pilot)", said[1].partition("=")[2], "asked before the first"):
        assert text in page.read_text()
    report = json.loads(page.with_name("report.json").read_text())
    assert (report["name"], report["question"]) == ("pilot", "Is 10 better than 40?")
    done = command("harness.run", "-m", *own, "batch=10,40", "seed=1,2", "question=Another?")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "4 run(s) of this sweep have finished, so its question, 'Is 10" in done.stderr
    assert command("harness.run", *own, "name=alone", "note=by itself").returncode == 0
    assert command("harness", "note", "pilot", "later").returncode == 0
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    stored = client.search_runs(["1"], f"tags.`{SWEEP_NAME}` = 'pilot'")
    assert {run.data.tags[SWEEP_NOTE] for run in stored} == {"later"}
    (alone,) = client.search_runs(["1"], "attributes.run_name = 'alone'")
    assert alone.data.tags[NOTE] == "by itself"
    assert "later" in page.read_text()
    shown = command("harness", "status", "alone").stdout
    assert "by itself" in shown


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["question=?"], "question=?: only a sweep decides one; add -m"),
        (["name="], "name=: expected a text"),
        (["name=a", "name=b"], "name=b: name= is given twice; give one"),
        (["name=last"], "name=last: has a special meaning when runs are selected"),
        (["resume=last", "note=a"], "the run keeps its name and note; `python -m harness note`"),
    ],
)
def test_what_cannot_be_said_is_one_line(
    command: Command, words: list[str], problem: str, tmp_path: Path
) -> None:
    done = command("harness.run", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing was made"
