"""The progress display of one run: lines, and a bar in a terminal."""

import io
import re

import pytest

from harness.job import progress
from harness.nn import metrics
from harness.runfolder import optional
from harness.runfolder.objective import Objective

VALUES = {
    metrics.TRAIN_LOSS: 0.12345, metrics.TRAIN_ERROR: 0.05, metrics.VAL_ERROR: 0.0625,
    metrics.EXAMPLES_PER_S: 12345.6, metrics.EPOCH_S: 2.0,
}  # fmt: skip


def test_the_metrics_of_an_epoch() -> None:
    assert progress.numbers(VALUES) == "loss 0.1235  validation error 6.25%  12,346 examples/s"


def test_without_validation_the_training_error_is_shown() -> None:
    values = {key: value for key, value in VALUES.items() if key != metrics.VAL_ERROR}
    assert "train error 5.00%" in progress.numbers(values)


def test_the_objective_is_shown_beside_the_training_loss() -> None:
    values = VALUES | {metrics.VAL_LOSS: 0.25}
    shown = progress.numbers(values, Objective("val/loss"))
    assert shown == "loss 0.1235  validation loss 0.25  12,346 examples/s"
    shown = progress.numbers(values, Objective(metrics.TRAIN_LOSS))
    assert shown == "loss 0.1235  train error 5.00%  12,346 examples/s"
    assert progress.numbers({"val/r2": 0.5}, Objective("val/r2", is_max=True)) == (
        "validation r2 0.5"
    )


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.display("batch=16", 3) as show:
        for epoch in (1, 2, 3):
            show(epoch, VALUES)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for epoch, line in enumerate(lines, 1):
        start = f"batch=16  epoch {epoch}/3  {progress.numbers(VALUES)}  "
        assert line.startswith(start)
        assert re.fullmatch(r"\d+ s left", line.removeprefix(start))
    assert lines[-1].endswith("  0 s left")


def test_the_time_left_counts_the_epochs_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a resumed run, the earlier epochs took no time now; what is compiled, once."""
    clock = iter([100.0, 104.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    lines = progress.Lines("n", 10, 5)
    lines.epoch(6, VALUES)
    assert stream.getvalue().endswith("  8 s left\n"), "four epochs of two seconds"
    lines.epoch(7, VALUES)
    assert stream.getvalue().endswith("  9 s left\n"), "three epochs of three seconds"


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    with progress.display("batch=16", 3, finished=1) as show:
        show(2, VALUES)
    text = stream.getvalue()
    assert "batch=16" in text
    assert "2/3" in text


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("name", ["batch=64,seed=1", "lr=0.1,width=200,activation=relu,seed=12"])
def test_a_narrow_terminal_has_the_epoch(
    monkeypatch: pytest.MonkeyPatch, width: int, name: str
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("COLUMNS", str(width))
    with progress.display(name, 100) as show:
        show(12, VALUES | {metrics.EXAMPLES_PER_S: 123_456.0})
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", stream.getvalue())
    last = re.split(r"[\r\n]+", plain.strip())[-1]
    assert len(last) <= width
    assert "epoch 12/100 " in last
    assert "validation error 6.25%" in last
    assert last.startswith(name[:8])
    assert re.search(r" [-\d]+:[-\d]\d?-?$", last), "the time left"
    assert ("━" in last) == (width > 100 or (width == 100 and len(name) < 20))
    assert ("loss" in last) == (width > 60)
    assert ("examples/s" in last) == (width == 140 and len(name) < 20)


def test_a_display_that_fails_is_one_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optional, "_warned", set())
    calls = []

    def fail(self: progress.Lines, epoch: int, values: dict[str, float]) -> None:
        calls.append(epoch)
        raise RuntimeError("a bug of the display")

    monkeypatch.setattr(progress.Lines, "epoch", fail)
    with progress.display("n", 3) as show:
        for epoch in (1, 2, 3):
            show(epoch, VALUES)
    assert calls == [1, 2, 3]
    assert capsys.readouterr().err == (
        "warning: progress display: RuntimeError: a bug of the display\n"
    )


@pytest.mark.parametrize("method", ["__init__", "close"])
def test_a_display_that_does_not_start_or_end_is_one_warning(
    method: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug of the display")

    monkeypatch.setattr(optional, "_warned", set())
    monkeypatch.setattr(progress.Lines, method, fail)
    with progress.display("n", 1) as show:
        show(1, VALUES)
    assert capsys.readouterr().err == (
        "warning: progress display: RuntimeError: a bug of the display\n"
    )


def test_an_interruption_passes_through_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress.Lines, "epoch", interrupt)
    with pytest.raises(KeyboardInterrupt), progress.display("n", 3) as show:
        show(1, VALUES)
