"""Which settings are ranked together: in a search, and with `until=decided`."""

from pathlib import Path

import pytest

from harness.run.judged import difference
from tests.conftest import RUN, Command, small

LOSSES = """
from harness.nn.losses import CrossEntropy

class First(CrossEntropy):
    def __init__(self, *, scale: float = 1.0):
        super().__init__()

class Second(CrossEntropy):
    pass
"""
UNTIL = ("seed=1,2,3", "until=decided", "--dry-run")
SEARCH = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "epochs=1", "tracking=none")


@pytest.mark.parametrize(
    ("swept", "key"),
    [("loss=own:First,own:Second", "loss"), ("loss.scale=1.0,2.0", "loss.scale")],
)
@pytest.mark.parametrize("words", [UNTIL, SEARCH])
def test_different_losses_are_not_ranked_by_the_loss(
    command: Command, tmp_path: Path, idx_folder: Path, words: tuple[str, ...], swept: str, key: str
) -> None:
    (tmp_path / "own.py").write_text(LOSSES)
    fixed = () if swept.startswith("loss=") else ("loss=own:First",)
    own = ("-m", *small(idx_folder), *fixed, *words, swept)
    by_loss = ["objective=val/loss"]
    if words is SEARCH:
        by_loss.append("objective=[val/error,val/loss]")
    for objective in by_loss:
        done = command(RUN, *own, objective)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert f"{key}: " in done.stderr
        assert "values of different losses are not ranked together" in done.stderr
        assert not (tmp_path / "outputs/runs").exists()
    done = command(RUN, *own, "objective=val/error")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [UNTIL, SEARCH])
def test_label_smoothing_is_not_chosen_by_the_training_loss(
    command: Command, idx_folder: Path, words: tuple[str, ...]
) -> None:
    own = (RUN, "-m", *small(idx_folder), *words, "label_smoothing=0,0.1")
    done = command(*own, "objective=train/loss")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "values of a training loss of different targets are not ranked together" in done.stderr
    assert command(*own, "objective=train/error").returncode == 0


def test_an_option_that_only_one_has_is_no_difference() -> None:
    assert difference({"objective": "val/loss", "loss": "a"}, {"objective": "val/loss"}) is None
    assert difference({"loss": "a", "loss.scale": 1}, {"loss": "b"}) == "loss"
