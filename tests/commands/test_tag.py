"""`harness tag`: from the command to the journal, the table, filters and MLflow."""

import json
from pathlib import Path

import pytest

from harness.commands.tag import RESERVED
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import Run
from harness.runfolder.selection import select
from tests.conftest import RUN, Command, histories, new_run, record_training, small

SWEEP = "xaaaaaaaaa"


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """A sweep of two runs and a run by itself, without MLflow."""
    outputs = tmp_path / "outputs"
    made = [record_training(new_run(outputs, "tracking=none", name=f"n{i}"), 0.5) for i in range(3)]
    Plan(SWEEP, ("-m",), tuple(SweepJob(run.id, "n", {}, "k") for run in made[:2])).save(outputs)
    return made


def test_a_tag_selects_is_shown_and_is_removed(
    command: Command, runs: list[Run], tmp_path: Path
) -> None:
    done = command("harness", "tag", "xaaa", "team=vision, part 2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"sweep {SWEEP}: tagged (2 run(s))\n"
    assert command("harness", "tag", "n0", "n2", "fast=yes").returncode == 0
    assert [run.history().user_tags for run in runs] == [
        {"team": "vision, part 2", "fast": "yes"}, {"team": "vision, part 2"}, {"fast": "yes"},
    ]  # fmt: skip
    chosen = select(tmp_path / "outputs", ["tags.team = 'vision, part 2'"])
    assert set(chosen.runs) == set(runs[:2])
    shown = command("harness", "status", COLUMNS="150").stdout
    assert "fast=yes, team=vision, part 2" in shown
    content = json.loads(command("harness", "status", "--json").stdout)
    assert {each["name"]: each["tags"] for each in content["runs"]}["n2"] == {"fast": "yes"}
    done = command("harness", "tag", "n0", "fast=")
    assert done.stdout == "name n0: tag removed (1 run(s))\n"
    assert runs[0].history().user_tags == {"team": "vision, part 2"}
    assert "fast" not in runs[0].history().tags


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["last", "vision"], "'vision': expected KEY=VALUE as the last word, such as team=vision"),
        (["last", "mlflow.user=me"], "'mlflow.user=me': expected KEY=VALUE"),
        (["last", "=me"], "'=me': expected KEY=VALUE"),
        (["last", "sweep=me"], "'sweep=me': sweep is a tag of the harness's own; take another key"),
        (["last", "team=a\nb"], "expected one line of at most 1000 characters"),
        (["last"], "'last': expected KEY=VALUE as the last word"),
        (["team=vision"], "the selection is missing; type tag SELECTION KEY=VALUE"),
        (["nobody", "team=vision"], "'nobody' is no run, sweep, name or experiment in outputs"),
    ],
)
def test_what_cannot_be_a_tag_is_one_line(
    command: Command, runs: list[Run], words: list[str], problem: str
) -> None:
    done = command("harness", "tag", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr
    assert not any(run.history().user_tags for run in runs)


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_in_mlflow(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    import mlflow

    assert command(RUN, "-m", *small(idx_folder, "epochs=1"), "lr=0.1,3e38").returncode == 1
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    of_harness = {key for run in client.search_runs(["1"]) for key in run.data.tags}
    assert {key for key in of_harness if "." not in key} <= RESERVED
    assert {key for run in histories(tmp_path) for key in run.tags if "." not in key} <= RESERVED
    assert command("harness", "tag", "last", "team=vision").returncode == 0
    assert len(client.search_runs(["1"], "tags.team = 'vision'")) == 2
    assert command("harness", "tag", "last", "team=").returncode == 0
    assert not any("team" in run.data.tags for run in client.search_runs(["1"]))
    assert command("harness", "sync", "--verify").returncode == 0
