"""Experiments of other programs: plain MLflow, scikit-learn's autolog, and a Hydra template.

Each is written by a program that does not import this package. The example of docs/results.md is
the plain one.
"""

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.analysis.test_page import Page
from tests.conftest import ROOT, Command
from tests.forked import forked, preload

pytestmark = pytest.mark.service

SECTION = (ROOT / "docs/results.md").read_text().partition("## Experiments of other programs")[2]
(PLAIN,) = re.findall(r"```py\n(.*?)```", SECTION, re.DOTALL)
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", SECTION, re.DOTALL)

# As scikit-learn's users do: the seed divides the data and starts the training.
AUTOLOG = """
import mlflow
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

mlflow.set_tracking_uri("sqlite:///store.db")
mlflow.set_experiment("autolog")
mlflow.sklearn.autolog(log_models=False)
X, y = load_digits(return_X_y=True)
for alpha in (1e-4, 10.0):
    for seed in range(3):
        x, x_test, t, t_test = train_test_split(X, y, random_state=seed)
        with mlflow.start_run():
            model = SGDClassifier(alpha=alpha, random_state=seed, max_iter=5, tol=None)
            model.fit(x, t)
            model.score(x_test, t_test)
"""

# What lightning-hydra-template logs by Lightning's MLFlowLogger, which flattens the composed
# configuration with slashes; the training itself is replaced by numbers. Steps are batches.
TEMPLATE = """
import sys
import numpy as np
import mlflow
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

def flat(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value

mlflow.set_tracking_uri("sqlite:///store.db")
mlflow.set_experiment("lightning-hydra-template")
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    for number, (lr, seed) in enumerate((lr, s) for lr in (0.001, 0.01) for s in range(1, 7)):
        cfg = compose("train", [f"model.optimizer.lr={lr}", f"seed={seed}", f"number={number}"])
        with mlflow.start_run(run_name="train"):
            params = dict(flat(OmegaConf.to_container(cfg, resolve=True)))
            mlflow.log_params(params | {"model/params/total": 67146})
            draw = np.random.default_rng(seed).normal(0, 0.01, (3, 2))
            for epoch in range(3):
                acc = 0.9 + 0.02 * epoch - 3 * lr + draw[epoch, 0]
                for key, value in {"val/acc": acc, "val/loss": 1 - acc, "epoch": epoch}.items():
                    mlflow.log_metric(key, value, step=215 * (epoch + 1) - 1)
            mlflow.log_metric("test/acc", acc + draw[epoch, 1] + lr * seed, step=645)
"""
TRAIN_YAML = """
task_name: train
tags: [dev]
seed: 1
number: 0
ckpt_path: null
data: {_target_: src.data.mnist_datamodule.MNISTDataModule, batch_size: 128}
model:
  _target_: src.models.mnist_module.MNISTLitModule
  optimizer: {_target_: torch.optim.Adam, lr: 0.001, weight_decay: 0.0}
  net: {lin1_size: 64}
callbacks: {model_checkpoint: {dirpath: "logs/runs/${number}/checkpoints", mode: max}}
"""
STORE = ("--uri", "sqlite:///store.db")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of three programs' experiments."""
    place = tmp_path_factory.mktemp("others")
    (place / "conf").mkdir()
    (place / "conf/train.yaml").write_text(TRAIN_YAML)
    for program in (PLAIN, AUTOLOG, TEMPLATE):
        done = subprocess.run(
            [sys.executable, "-c", program, str(place / "conf")],
            cwd=place, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    preload()
    return place


@pytest.fixture
def others(folder: Path) -> Command:
    """Runs a command of `python -m harness` in the folder."""

    def run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
        assert module == "harness"
        return forked(folder, *words)

    return run


def compared(others: Command, *words: str) -> dict[str, Any]:
    """What `compare --json` prints."""
    done = others("harness", "compare", *words, *STORE, "--json")
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@cache
def recorded(folder: Path, experiment: str) -> list[Any]:
    """The runs as MLflow's own client reads them."""
    program = (
        "import json, mlflow; mlflow.set_tracking_uri('sqlite:///store.db'); print(json.dumps("
        f"[[r.data.params, r.data.metrics] for r in mlflow.search_runs(experiment_names="
        f"['{experiment}'], output_format='list')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120
    )
    runs: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return runs


def by_seed(runs: list[Any], setting: tuple[str, str], seed: str, metric: str) -> np.ndarray:
    """The values of a metric in the runs of a setting, in the order of their seeds."""
    key, value = setting
    rows = [(int(p[seed]), m[metric]) for p, m in runs if p[key] == value and metric in m]
    return np.array([each for _, each in sorted(rows)])


def test_plain_mlflow_gives_the_numbers_of_scipy(others: Command, folder: Path) -> None:
    words = ("study", "--metric", "val_accuracy:max", "--test-metric", "test_rmse")
    content = compared(others, *words, "--seed-key", "params.rng", "--setting", "params.lr")
    runs = recorded(folder, "study")
    best, *rest = content["settings"]
    assert (best["lr"], best["n"], best["against_best"]) == (0.1, 5, "best")
    of_best = by_seed(runs, ("lr", "0.1"), "rng", "test_rmse")
    raw = {}
    for row in content["settings"]:
        tested = by_seed(runs, ("lr", str(row["lr"])), "rng", "test_rmse")
        measured = by_seed(runs, ("lr", str(row["lr"])), "rng", "val_accuracy")
        assert row["val_accuracy_mean"] == pytest.approx(measured.mean(), rel=1e-12)
        assert row["val_accuracy_std"] == pytest.approx(measured.std(ddof=1), rel=1e-12)
        assert row["test_rmse_mean"] == pytest.approx(tested.mean(), rel=1e-12)
        low, high = stats.t.interval(0.95, 4, tested.mean(), stats.sem(tested))
        assert (row["test_rmse_low"], row["test_rmse_high"]) == pytest.approx((low, high))
        raw[row["lr"]] = 1.0 if row is best else stats.ttest_rel(tested, of_best).pvalue
    smaller, larger = sorted(rest, key=lambda row: raw[row["lr"]])
    assert smaller["tested"] == larger["tested"] == "paired t over 5 seeds"
    assert smaller["p_holm"] == pytest.approx(2 * raw[smaller["lr"]], rel=1e-9)
    expected = max(2 * raw[smaller["lr"]], raw[larger["lr"]])
    assert larger["p_holm"] == pytest.approx(expected, rel=1e-9)
    assert content["notes"] == [
        "1 finished run(s) have no val_accuracy and were left out",
        "within a setting, runs also differ in pid, which --setting leaves out",
    ]


def test_the_commands_of_the_page(others: Command, folder: Path) -> None:
    for line in COMMANDS.replace("\\\n", " ").splitlines():
        python, m, *words = shlex.split(line)
        assert (python, m) == ("python", "-m")
        done = others(*words)
        assert done.returncode == 0, done.stderr
        assert done.stdout, line
        notes = [each for each in done.stderr.splitlines() if each]
        assert all(each.startswith("note: ") for each in notes), done.stderr
    assert not list((folder / "outputs/reports").rglob("*error*"))


def test_the_report_speaks_of_the_metric_by_its_name(others: Command, folder: Path) -> None:
    words = ("study", "--metric", "val_accuracy:max", "--seed-key", "params.rng")
    done = others("harness", "compare", *words, "--setting", "params.lr", *STORE)
    assert done.returncode == 0
    assert re.search(r"lr=0.1 has the highest val_accuracy: 8\d.\d\d ± .* % over 5", done.stdout)
    assert "attached" not in done.stdout
    report = folder / "outputs/reports/experiment-study-val_accuracy"
    text = Page((report / "index.html").read_text()).text
    assert "Comparison of experiment study by val_accuracy" in text
    assert "the same numbers of val_accuracy" in text
    for word in ("validation", "epoch,", "judged", "error", "seconds", "test set"):
        assert word not in text.partition("Ranking")[2].partition("How to read this")[0], word
    assert "step</text>" in (report / "index.html").read_text()


def test_autolog_pairs_the_seeds_that_divide_the_data(others: Command, folder: Path) -> None:
    """The digests of the data differ between seeds, which would make each seed a setting."""
    (metric,) = {key for _, found in recorded(folder, "autolog") for key in found
                 if key.startswith("SGDClassifier_score")}  # fmt: skip
    words = ("autolog", "--metric", f"{metric}:max", "--seed-key", "params.random_state")
    content = compared(others, *words)
    assert [row["n"] for row in content["settings"]] == [3, 3]
    assert {row["alpha"] for row in content["settings"]} == {0.0001, 10.0}
    runs = recorded(folder, "autolog")
    first, second = (
        by_seed(runs, ("alpha", str(row["alpha"])), "random_state", metric)
        for row in content["settings"]
    )
    assert content["settings"][0][f"{metric}_mean"] == pytest.approx(first.mean(), rel=1e-12)
    p = stats.ttest_rel(second, first).pvalue
    assert content["settings"][1]["p_holm"] == pytest.approx(p, rel=1e-6)
    assert any("3 different data sets" in note for note in content["notes"])
    content = compared(others, "autolog", "--metric", "training_score:max", *words[3:])
    assert any("how well they fit" in note for note in content["notes"])


def test_params_with_slashes_of_another_hydra_template(others: Command, folder: Path) -> None:
    """12 runs, whose checkpoint folders all differ: `--setting` chooses what is compared."""
    name = "lightning-hydra-template"
    words = (name, "--metric", "val/acc:max", "--test-metric", "test/acc:max")
    seed = ("--seed-key", "params.seed")
    content = compared(others, *words, *seed)
    assert len(content["settings"]) == 12
    assert any("callbacks/model_checkpoint/dirpath" in note for note in content["notes"])
    content = compared(others, *words, *seed, "--setting", "params.model/*")
    best, other = content["settings"]
    assert (best["model/optimizer/lr"], best["n"]) == (0.001, 6)
    assert other["tested"] == "sign flips over 6 seeds"
    runs = recorded(folder, name)
    first, second = (by_seed(runs, ("model/optimizer/lr", str(row["model/optimizer/lr"])), "seed",
                             "test/acc") for row in (best, other))  # fmt: skip
    assert other["test_difference"] == pytest.approx((second - first).mean(), rel=1e-9)
    exact = stats.permutation_test(
        (second - first,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert other["p_holm"] == pytest.approx(exact.pvalue, rel=1e-9)


def test_attach_is_asked_for_explicitly(others: Command, folder: Path) -> None:
    words = ("autolog", "--metric", "training_score:max", "--seed-key", "params.random_state")
    before = sorted(folder.glob("mlruns/**/report/**/*")) + sorted(folder.glob("mlartifacts/**"))
    assert others("harness", "compare", *words, *STORE).returncode == 0
    after = sorted(folder.glob("mlruns/**/report/**/*")) + sorted(folder.glob("mlartifacts/**"))
    assert before == after == []
    done = others("harness", "compare", *words, *STORE, "--attach")
    assert done.returncode == 0, done.stderr
    assert re.search(r"attached to .* as report/experiment-autolog-training_score", done.stdout)
    assert list(folder.glob("mlruns/**/report/experiment-autolog-training_score/index.html"))


def test_predictions_in_our_form_are_tested_by_example(others: Command, folder: Path) -> None:
    """One seed, predictions/test.npz with labels and probabilities: McNemar's test."""
    program = """
import mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///store.db"); mlflow.set_experiment("predictions")
labels = np.arange(200) % 2
for depth, wrong in ((1, 40), (2, 10), (3, 11)):
    with mlflow.start_run():
        predicted = labels.copy(); predicted[:wrong] ^= 1
        np.savez("test.npz", labels=labels, probabilities=np.eye(2)[predicted])
        logged = wrong if depth < 3 else 100
        mlflow.log_param("depth", depth); mlflow.log_metric("test_error", logged / 200)
        mlflow.log_artifact("test.npz", "predictions")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr
    content = compared(others, "predictions", "--metric", "test_error")
    best, middle, worst = content["settings"]
    assert (best["depth"], middle["depth"], worst["depth"]) == (2, 1, 3)
    assert middle["tested"] == "McNemar on 200 examples, one seed"
    assert middle["p_holm"] == pytest.approx(stats.binomtest(0, 30).pvalue)
    assert middle["test_difference"] == pytest.approx(30 / 200)
    assert worst["p_holm"] is None
    assert [each["only_first_wrong"] for each in content["pairs"]] == [0]
    assert any("1 chosen run(s) do not give their test_error" in n for n in content["notes"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["study"], "experiment study: nothing to compare: 16 finished run(s) have neither "
         "val/error nor test/error and were left out; runs of another program are compared by "
         "--metric NAME, of which they have test_rmse, val_accuracy"),
        (["study", "--metric", "val_accurracy:max"], "--metric val_accurracy: no finished run of "
         "experiment study has it; expected one such as val_accuracy (2 in all)"),
        (["study", "--metric", "test_rmse", "--seed-key", "params.seed"], "--seed-key params.seed: "
         "no compared run has a seed there; expected one such as "),
        (["study", "--metric", "test_rmse", "--setting", "params.mod*"], "--setting params.mod*: "
         "no compared run has it; expected one such as "),
        (["nothing", "--metric", "test_rmse"], "'nothing' is not a sweep, an experiment, a name "
         "or a run in "),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(others: Command, words: list[str], line: str) -> None:
    done = others("harness", "compare", *words, *STORE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: {line}"), done.stderr


def test_python_and_the_exports_take_the_same_options(others: Command, folder: Path) -> None:
    options = ("--metric", "val_accuracy:max", "--test-metric", "test_rmse", "--seed-key",
               "params.rng", "--setting", "params.lr")  # fmt: skip
    done = others("harness", "export", "settings", "study", *STORE, *options)
    assert done.stdout.splitlines()[0].startswith("rank,lr,n,val_accuracy_mean,"), done.stderr
    done = others("harness", "export", "sentence", "study", *STORE, *options)
    assert done.stdout.startswith("lr=0.1 was chosen for the highest val_accuracy and has a "
                                  "test_rmse of "), done.stderr  # fmt: skip
    done = others("harness", "export", "latex", "study", *STORE, *options)
    assert r"lr & $n$ & val\_accuracy (\%) & test\_rmse & $p$" in done.stdout
    done = others("harness", "export", "figures", "study", *STORE, *options, "--format", "svg")
    assert (folder / "figures/test-rmse-by-lr.svg").is_file(), done.stderr
    program = (
        "import harness; frame = harness.settings('study', uri='sqlite:///store.db', "
        "metric='val_accuracy:max', test_metric='test_rmse', seed_key='params.rng', "
        "setting='params.lr'); print(list(frame['lr']), list(frame['n']))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True
    )
    assert shown.stdout == "[0.1, 0.01, 1.0] [5, 5, 5]\n", shown.stderr
    assert "UserWarning: 1 finished run(s) have no val_accuracy" in shown.stderr
