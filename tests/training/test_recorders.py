"""The recorders of a training in memory, and what `train` decides by itself."""

from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from harness.data import dataset, normalization
from harness.nn.models import mlp
from harness.nn.network import Network
from harness.nn.optimizers import SGD, Adam
from harness.training.options import Options
from harness.training.trainer import Result, Trainer, train
from tests.conftest import write_idx_folder


class Watch:
    """A recorder of the user's: what it is called with, and what surrounds it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.threads: set[int] = set()
        self.backend = ""

    def epoch(self, epoch: int, values: dict[str, float], trainer: Trainer) -> None:
        self.calls.append(("epoch", epoch))
        self.threads |= {each["num_threads"] for each in threadpool_info()}
        self.backend = trainer.options.backend

    def final(self, epoch: int, values: dict[str, float]) -> None:
        self.calls.append(("final", epoch))


def trained(folder: Path, optimizer: type = SGD, **more: object) -> tuple[Result, Watch]:
    data = dataset.load("idx", folder=str(folder), cache=folder.parent / "cache", num_val=40)
    network = Network.create(mlp((6, 5), 4, width=8), 30, np.random.default_rng(1))
    fitted = normalization.fit("minmax", data.train.inputs, data.train.rows)
    watch = Watch()
    options = Options(batch=20, lr=0.3, epochs=3)
    result = train(
        network, data, optimizer(network.parameters), fitted, options, recorder=watch, **more
    )
    return result, watch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx_folder(tmp_path_factory.mktemp("idx") / "files")


def test_a_recorder_is_called_after_each_epoch_and_at_the_end(folder: Path) -> None:
    result, watch = trained(folder)
    assert watch.calls == [("epoch", 1), ("epoch", 2), ("epoch", 3), ("final", 3)]
    assert set(result.values) >= {"test/loss", "test/error"}


def test_progress_and_a_recorder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch = trained(folder, progress=True)[1]
    assert watch.calls == [("epoch", 1), ("epoch", 2), ("epoch", 3), ("final", 3)]
    assert capsys.readouterr().out.count("\n") == 4


def test_blas_has_the_threads_of_the_rule_while_it_trains(folder: Path) -> None:
    before = {each["num_threads"] for each in threadpool_info()}
    assert trained(folder)[1].threads == {1}
    assert {each["num_threads"] for each in threadpool_info()} == before


def test_the_compiled_kernels_are_taken_where_they_can_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained(folder)[1].backend == "numba"
    assert trained(folder, Adam)[1].backend == "numba"
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert trained(folder)[1].backend == "numpy"


def test_progress_is_shown_when_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dataset.load("idx", folder=str(folder), cache=folder.parent / "cache", num_val=40)
    network = Network.create(mlp((6, 5), 4, width=8), 30, np.random.default_rng(1))
    fitted = normalization.fit("minmax", data.train.inputs, data.train.rows)
    arguments = (network, data, SGD(network.parameters), fitted)
    train(*arguments, Options(batch=20, lr=0.3, epochs=1))
    assert capsys.readouterr().out == ""
    train(*arguments, Options(batch=20, lr=0.3, epochs=2), progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("epoch 2/2  train/loss 0.")
    assert "test/error" in lines[2]
