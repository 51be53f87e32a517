"""What is logged are the weights of the run."""

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from safetensors import safe_open

from harness.recognizer import registry
from harness.recognizer.recognizer import Recognizer
from harness.recognizer.registry import Source, Version
from harness.runfolder import checkpoint
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.errors import StoreError
from harness.tracking.store import Store
from tests.tracking.conftest import fresh_store


def test_the_uri_names_the_alias() -> None:
    assert Version("digits", "3", "champion").uri == "models:/digits@champion"


def test_the_logged_weights_are_those_of_the_run(
    tmp_path: Path, run_folder: Path, trained: Recognizer
) -> None:
    arrays, _ = checkpoint.load(Run(run_folder).weights)
    example = np.zeros((2, 28, 28), np.uint8)
    content = registry.model_content(tmp_path, trained, arrays, example)
    logged, description = checkpoint.load(Path(content["artifacts"]["weights"]))
    assert description["calibration"]["temperature"] == trained.temperature
    assert content["metadata"]["run.id"] == trained.run_id
    assert all(np.array_equal(logged[name], array) for name, array in arrays.items())
    with safe_open(content["artifacts"]["weights"], framework="numpy") as file:
        assert set(file.keys()) == set(arrays)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_shared", [True, False])
def test_a_failed_registration_leaves_what_others_registered(
    tmp_path: Path,
    run_folder: Path,
    trained: Recognizer,
    monkeypatch: pytest.MonkeyPatch,
    is_shared: bool,
) -> None:
    """The model was created by us, and another process has added a version before the failure."""
    fresh_store(tmp_path)
    store = Store(Target.local(tmp_path))
    run = store.client.create_run(store.experiment("mnist")).info.run_id

    def fail(client: MlflowClient, name: str, *_: str) -> None:
        if is_shared:
            client.create_model_version(name, (tmp_path / "artifacts").as_uri())
        raise MlflowException("refused")

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", fail)
    arrays, _ = checkpoint.load(Run(run_folder).weights)
    source = Source(trained.run_id, run, "mnist", "ab" * 32)
    example = np.zeros((2, 28, 28), np.uint8)
    with pytest.raises(StoreError, match="refused"):
        registry.register(store.target, source, trained, arrays, name="own", example=example)
    client = MlflowClient(store.target.uri, store.target.uri)
    left = client.search_model_versions("name = 'own'")
    assert [version.version for version in left] == ([2] if is_shared else [])
    assert len(client.search_registered_models()) == is_shared
