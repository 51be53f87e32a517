"""What takes room on disk, as a table and as JSON; and that a default run takes little."""

import json
from pathlib import Path

import pytest

from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import WEIGHTS, Run
from tests.conftest import RUN, Command, new_run, only_folder, record_training

SWEEP = "xaaaaaaaaa"


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """A large run by itself, and a sweep of two smaller ones."""
    outputs = tmp_path / "outputs"
    made = [record_training(new_run(outputs, "tracking=none", name=name), 0.5) for name in "abc"]
    for run, size in zip(made, (900_000, 200_000, 300_000), strict=True):
        run.weights.parent.mkdir()
        run.weights.write_bytes(bytes(range(250)) * (size // 250))
    jobs = tuple(SweepJob(run.id, "n", {}, "k") for run in made[1:])
    Plan(SWEEP, ("-m",), jobs).save(outputs)
    for number, run in enumerate(made[1:], 1):
        run.join_sweep(SWEEP, f"{number}/2")
    return made


def test_the_largest_come_first(command: Command, runs: list[Run]) -> None:
    done = command("harness", "du")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    (weights,) = [row for row in rows if row[:1] == ["weights"]]
    assert float(weights[1]) == pytest.approx(1.4, abs=0.03)
    assert [row[:3] for row in rows if row[-2:-1] == ["0.00"]] == [
        [runs[0].id, "a", "1"], [SWEEP, "-", "2"],
    ]  # fmt: skip
    few = command("harness", "du", "--limit", "1").stdout
    assert runs[0].id in few
    assert SWEEP not in few


def test_json_of_a_selection(command: Command, runs: list[Run]) -> None:
    content = json.loads(command("harness", "du", SWEEP, "--json").stdout)
    assert content["bytes"] == sum(content["kinds"].values())
    assert [each["run"] for each in content["runs"]] == [runs[2].id, runs[1].id]
    (sweep,) = content["largest"]
    assert (sweep["id"], sweep["runs"]) == (SWEEP, 2)
    assert sweep["bytes"] == sum(each["bytes"] for each in content["runs"]) == content["bytes"]
    assert sweep["kinds"] == content["kinds"]
    assert 500_000 <= content["kinds"]["weights"] < 530_000


def test_nothing_and_what_is_unknown(command: Command, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    done = command("harness", "du")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[-2:] == ["total", "0.00"]
    done = command("harness", "du", "what")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'what' is no run, sweep, name or experiment" in done.stderr


@pytest.mark.service
@pytest.mark.parametrize(
    ("more", "least", "most"),
    [("objective=val/loss:max", 2_000_000, 2_500_000), ("weights=last", 1_200_000, 1_600_000)],
)
def test_a_finished_default_run_takes_little(
    command: Command, tmp_path: Path, more: str, least: int, most: int
) -> None:
    """The weights of epochs 1 and 3, or of 3, predictions and a picture, once; no checkpoints."""
    done = command(RUN, "dataset.num_train=500", "epochs=3", more)
    assert done.returncode == 0, done.stderr
    content = json.loads(command("harness", "du", "last", "--json").stdout)
    assert least < content["bytes"] < most
    # The folder itself, which takes nothing in memory; what takes nothing is not listed.
    assert content["kinds"].get("checkpoints", 0) < 20_000
    folder = only_folder(tmp_path)
    (stored,) = tmp_path.glob(f"outputs/artifacts/*/*/artifacts/{WEIGHTS}")
    assert stored.samefile(folder / WEIGHTS)
