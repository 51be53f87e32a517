"""The best epoch, early stopping, and metrics that are not finite."""

import math
from typing import Any

import pytest

from harness.training.monitor import Diverged, Monitor, check_finite

NAN = math.nan


def monitor(
    objective: str = "val/error", *, maximize: bool = False, patience: int | None = None,
    is_validated: bool = True, **more: Any,
) -> Monitor:  # fmt: skip
    return Monitor(
        objective, maximize=maximize, patience=patience, is_validated=is_validated, **more
    )


@pytest.mark.parametrize(
    ("values", "maximize", "best"),
    [
        ((0.3, 0.1, 0.1, 0.2), False, [True, True, True, False]),
        ((0.3, 0.1, 0.3, 0.2), True, [True, False, True, False]),
    ],
)
@pytest.mark.parametrize("ties", ["latest", "earliest"])
def test_of_equal_epochs_the_latest_is_the_best(
    values: tuple[float, ...], maximize: bool, best: list[bool], ties: str
) -> None:
    """The earliest is, where a run of an earlier version asks for it."""
    if ties == "earliest":
        best = [is_best and values.index(value) == n
                for n, (value, is_best) in enumerate(zip(values, best, strict=True))]  # fmt: skip
    judged = monitor("val/own", maximize=maximize, ties=ties)
    assert [judged.add(n, {"val/own": value}) for n, value in enumerate(values, 1)] == best
    epoch = max(n for n, is_best in enumerate(best, 1) if is_best)
    assert judged.best() == {"best/epoch": epoch, "best/val_own": values[epoch - 1]}


def test_without_validation_the_last_epoch_is_the_best_and_has_no_value() -> None:
    judged = monitor(is_validated=False, patience=1)
    for epoch in (1, 2, 3):
        assert judged.add(epoch, {"train/loss": 0.1 * epoch})
        assert not judged.is_stale(epoch)
    assert (judged.best_epoch, judged.best()) == (3, {})
    assert judged.add(4, {"val/error": 0.5})
    assert not judged.add(5, {"train/loss": 0.1})
    assert judged.best() == {"best/epoch": 4, "best/val_error": 0.5}


@pytest.mark.parametrize(
    ("objective", "maximize", "is_validated"),
    [("val/error", False, True), ("val/error", True, False), ("val/loss", False, False)],
)
def test_a_required_objective_that_is_missing_is_named(
    objective: str, maximize: bool, is_validated: bool
) -> None:
    judged = monitor(objective, maximize=maximize, is_validated=is_validated)
    expected = f"^objective={objective}: not recorded in epoch 1, only train/loss, a$"
    with pytest.raises(ValueError, match=expected):
        judged.add(1, {"train/loss": 0.1, "a": 1.0, "time/epoch_s": 2.0})


@pytest.mark.parametrize(("patience", "stale"), [(None, []), (0, []), (1, [2, 4]), (2, [])])
def test_patience_counts_the_epochs_after_the_best(patience: int | None, stale: list[int]) -> None:
    judged, found = monitor(patience=patience), []
    for epoch, error in enumerate((0.3, 0.3, 0.2, 0.2), 1):
        judged.add(epoch, {"val/error": error})
        found += [epoch] * judged.is_stale(epoch)
    assert found == stale


def test_the_last_weights_count_and_patience_counts_from_the_best_epoch() -> None:
    judged = monitor(weights="last", patience=3)
    for epoch, error in enumerate((0.3, 0.1, 0.2, 0.1, 0.4), 1):
        assert judged.add(epoch, {"val/error": error})
        assert judged.best() == {"best/epoch": epoch, "best/val_error": error}
        assert judged.is_stale(epoch) == (epoch == 5)
    without = monitor(weights="last", is_validated=False)
    assert without.add(1, {"train/loss": 0.1})
    assert (without.best_epoch, without.best()) == (1, {})


def test_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^weights=lst: expected best or last$"):
        monitor(weights="lst")


def test_what_is_not_finite_is_named_losses_first() -> None:
    values = {"train/loss": 1.0, "train/own": NAN, "val/loss": math.inf}
    with pytest.raises(Diverged, match=r"^val/loss is inf in epoch 2$") as caught:
        check_finite(2, values)
    assert (caught.value.epoch, caught.value.values) == (2, values)
    with pytest.raises(Diverged, match=r"^the validation loss is inf .*lr=3 .*; try lr=0\.3$"):
        check_finite(2, values, lr=3.0)
    for lr in (3.0, None):
        with pytest.raises(Diverged, match=r"train/own is nan in epoch 2"):
            check_finite(2, {"train/own": NAN}, lr=lr)
    with pytest.raises(Diverged, match=r"^metric train/own is nan in epoch 2: expected a finite"):
        check_finite(2, {"train/own": NAN}, lr=3.0)
    check_finite(1, {"train/loss": 1.0}, lr=3.0)
