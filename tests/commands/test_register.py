"""`harness register`: the best run on validation becomes a model that MLflow serves."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from harness.data import dataset
from harness.nn import metrics
from harness.recognizer import loading
from harness.runfolder.run import Run
from tests.commands.test_ui import free_port
from tests.conftest import command_in, run_folders

USE = """
import json, sys
import mlflow, numpy as np
images = np.load("images.npy")
model = mlflow.pyfunc.load_model("models:/digits@champion")
flat, square = model.predict(images.reshape(-1, 784)), model.predict(images)
assert (flat["class"] == square["class"]).all()
assert model.metadata.signature is not None and model.metadata.saved_input_example_info
assert [p for p in sys.modules if p == "harness" or p.startswith("harness.")] == []
print(json.dumps(square.to_dict("list")))
"""


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_the_best_run_of_a_sweep_is_served(tmp_path: Path) -> None:
    command = command_in(tmp_path)
    fast = ("dataset.num_train=4000", "epochs=2", "activation=relu")
    assert command("harness.run", "-m", *fast, "lr=0.1,0.001", timeout=900).returncode == 0
    done = command("harness", "register")
    assert done.returncode == 0, done.stderr
    outputs = tmp_path / "outputs"
    errors = {
        folder.name: Run(folder).history().final[metrics.BEST_VAL_ERROR]
        for folder in run_folders(outputs)
    }
    best = min(errors, key=lambda run: errors[run])
    assert done.stdout.startswith(f"run {best} (validation error {errors[best]:.2%}) is digits")

    champion = loading.choose(outputs)
    assert champion.run_id == best
    images = np.array(dataset.load("mnist", cache=outputs / "cache").test.images[:20])
    expected = champion.probabilities(images)
    np.save(tmp_path / "images.npy", images.reshape(-1, 28, 28))
    uri = f"sqlite:///{outputs / 'mlflow.db'}"
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)
    used = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert used.returncode == 0, used.stderr
    output = json.loads(used.stdout)
    assert output["class"] == expected.argmax(axis=1).tolist()
    assert np.abs(np.array(output["probabilities"]) - expected).max() < 1e-5

    (tmp_path / "in.json").write_text(json.dumps({"inputs": images[:3].tolist()}))
    mlflow = [sys.executable, "-m", "mlflow", "models"]
    model = ["-m", "models:/digits@champion", "--env-manager", "local"]
    done = subprocess.run(
        [*mlflow, "predict", *model, "-t", "json", "-i", "in.json", "-o", "out.json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["predictions"]
    assert [row["class"] for row in rows] == output["class"][:3]
    assert served([*mlflow, "serve", *model], environment, images[:3]) == output["class"][:3]

    weights = next(outputs.rglob("recognizer.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="do not have the registered SHA-256"):
        loading.choose(outputs)
    shutil.rmtree(outputs / "artifacts")


def served(
    command: list[str],
    environment: dict[str, str],
    images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> list[int]:
    port = free_port()
    server = subprocess.Popen(
        [*command, "-p", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    body = json.dumps({"instances": images.reshape(-1, 28, 28).tolist()}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    return [row["class"] for row in json.load(reply)["predictions"]]
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_nothing_to_register_is_one_line(tmp_path: Path) -> None:
    done = command_in(tmp_path)("harness", "register")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no sweep in outputs")
