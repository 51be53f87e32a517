"""Training functions of the user's: every promise of the built-in one, and every failure named."""

import json
import re
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import psutil
import pytest

import harness
from harness.runfolder.run import Run
from tests.conftest import RUN, Command, histories, only_folder, run_folders, small, start, wait_for

TRAINER = """
from dataclasses import dataclass
import filelock
import numpy as np, sys, os, threading, time

@dataclass
class Settings:
    rate: float = 0.3
    hidden: int = 4
    unlearn_after: int = 100

def fit(settings: Settings, run):
    np.save(run.folder / "w.npy", unsaved(settings, run))
    run.artifact("model/w.npy", run.folder / "w.npy")

def unsaved(settings: Settings, run):
    x, y = run.dataset.train.arrays()
    x = x / 255
    w = np.zeros((x.shape[1], run.dataset.classes))
    if run.restored:
        w = np.load(run.restored / "w.npy")
    for epoch in run.epochs():
        order = np.random.default_rng((run.seed, epoch)).permutation(len(x))
        rate = settings.rate if epoch <= settings.unlearn_after else -settings.rate
        for rows in np.array_split(order, 10):
            delta = softmax(x[rows], w) - np.eye(w.shape[1])[y[rows]]
            w -= rate * x[rows].T @ delta / len(rows)
        time.sleep(SLEEP)
        run.log(epoch, {"val/error": error(run.dataset.val, w)},
                checkpoint=lambda folder: np.save(folder / "w.npy", w))
    if run.best:
        w = np.load(run.best / "w.npy")
    run.final({"test/error": error(run.dataset.test, w)})
    x, y = run.dataset.test.arrays()
    run.predictions(y, softmax(x / 255, w))
    return w

def softmax(x, w):
    p = np.exp(x @ w)
    return p / p.sum(axis=1, keepdims=True)

def error(part, w):
    x, y = part.arrays()
    return np.mean(softmax(x / 255, w).argmax(axis=1) != y)

def raises(settings: Settings, run):
    run.log(1, {"val/error": 0.5})
    raise KeyError("something")

def exits(settings: Settings, run):
    run.log(1, {"val/error": 0.5})
    sys.exit(3)

def interrupts(settings: Settings, run):
    run.log(1, {"val/error": 0.5})
    raise KeyboardInterrupt

def dies(settings: Settings, run):
    run.log(1, {"val/error": 0.5})
    os._exit(0)

def nan(settings: Settings, run):
    run.log(1, {"val/error": float("nan")})

def nothing(settings: Settings, run):
    pass

def chatty(settings: Settings, run):
    print("hello from the trainer")
    threading.Thread(target=time.sleep, args=(60,)).start()
    for epoch in run.epochs():
        run.log(epoch, {"val/error": 0.5})
    run.final({"test/error": 0.5})

def early(settings: Settings, run):
    for epoch in run.epochs():
        run.log(epoch, {"val/error": 0.5})
        if epoch == 2:
            return

def too_early(settings: Settings, run):
    for epoch in run.epochs():
        run.log(epoch, {"val/error": 0.5})
        if epoch == 1:
            run.final({"test/error": 0.5})

def rude(settings: Settings, run):
    class Rude(BaseException):
        def __str__(self):
            raise ValueError("no text")
    run.log(1, {"val/error": 0.5})
    raise Rude

def long(settings: Settings, run):
    raise ValueError("x" * 100_000)

def names(settings: Settings, run):
    run.log(1, {"val/error": 0.5, "my metric!!": 1})

def scores(settings: Settings, run):
    for epoch in run.epochs():
        run.log(epoch, {"val/error": 0.5})
    run.predictions(run.dataset.test.labels, np.full((len(run.dataset.test.labels), 10), 7))

def lies(settings: Settings, run):
    for epoch in run.epochs():
        run.log(epoch, {"val/error": 0.5})
    run.final({"test/error": 0})
    run.predictions(run.dataset.test.labels, np.full((len(run.dataset.test.labels), 4), 0.25) +
                    [0.3, -0.1, -0.1, -0.1])

def threads(settings: Settings, run):
    thread = threading.Thread(target=lambda: [][0])
    thread.start()
    thread.join()
    for epoch in run.epochs():
        run.log(epoch, {"val/error": 0.5})
    run.final({"test/error": 0.5})

def generates(settings: Settings, run):
    yield

async def waits(settings: Settings, run):
    pass

@dataclass
class Wrong:
    rate: float = "abc"

def default(settings: Wrong, run):
    pass

def forks(settings: Settings, run):
    if os.fork() == 0:
        time.sleep(0.5)
    chatty(settings, run)

def leaves(settings: Settings, run):
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    print("child", child)
    chatty(settings, run)

def crashes(settings: Settings, run):
    import ctypes
    run.log(1, {"val/error": 0.5})
    ctypes.string_at(0)

def rises(settings: Settings, run):
    for epoch in run.epochs():
        run.log(epoch, {"val/error": epoch / 10},
                checkpoint=lambda folder: np.save(folder / "e.npy", epoch))
    run.final({"test/error": np.load(run.best / "e.npy") / 10})

def shapes(settings: Settings, run):
    for epoch in run.epochs():
        run.log(epoch, {"val/error": 0.5})
    run.predictions(np.zeros(3), np.zeros((4, 2)))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "own_trainer.py").write_text(TRAINER.replace("SLEEP", "0"))
    return tmp_path


def own(folder: Path, name: str, *more: str) -> tuple[str, ...]:
    """Overrides of a run of an own trainer."""
    kept = [each for each in small(folder) if not each.startswith(("batch=", "width="))]
    return (*kept, f"trainer=own_trainer:{name}", "epochs=3", *more)


def test_a_process_that_a_trainer_leaves_behind_keeps_nobody_waiting(
    project: Path, idx_folder: Path
) -> None:
    arguments = [*own(idx_folder, "leaves", "seed=1,2"), "tracking=none"]
    log = project / "log.txt"  # not a pipe: the children hold its other end
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-m", RUN, "-m", *arguments], cwd=project, stdout=file, stderr=file
        )
    children = [psutil.Process(int(each)) for each in re.findall(r"child (\d+)", log.read_text())]
    assert len(children) == 2, log.read_text()
    assert all(child.is_running() for child in children)
    for child in children:
        child.kill()
    assert done.returncode == 0, log.read_text()
    assert [run.status for run in histories(project)] == ["FINISHED"] * 2


def test_a_crash_in_a_library_shows_where(
    command: Command, project: Path, idx_folder: Path
) -> None:
    done = command(RUN, *own(idx_folder, "crashes"), "tracking=none")
    assert done.returncode == 1, done.stderr
    assert "ended by signal 11" in done.stderr
    assert "in crashes" in done.stderr, "the stack of the function that crashed"


@pytest.mark.service
def test_a_sweep_of_an_own_trainer(command: Command, project: Path, idx_folder: Path) -> None:
    arguments = ("-m", *own(idx_folder, "fit", "trainer.rate=0.1,0.5", "seed=1,2"))
    done = command(RUN, *arguments)
    assert done.returncode == 0, done.stderr
    runs = histories(project)
    assert [run.status for run in runs] == ["FINISHED"] * 4
    first = runs[0]
    assert first.params["trainer.rate"] == 0.1
    assert "width" not in first.params
    assert set(first.final) - {"machine/energy_j"} == {
        "test/error", "best/epoch", "best/val_error", "machine/cpu_s", "machine/peak_memory_mb"
    }  # fmt: skip
    paths = {"config.yaml", "environment.txt", "predictions/test.npz", "model/w.npy",
             "code/own_trainer.py"}  # fmt: skip
    assert paths <= set(first.artifacts)
    assert "0.5" in done.stdout
    again = command(RUN, *arguments)
    assert again.returncode == 0
    assert again.stdout.count("finished before as") == 4
    compared = command("harness", "compare", "--no-attach")
    assert compared.returncode == 0, compared.stderr
    assert "trainer.rate" in compared.stdout
    synced = command("harness", "sync")
    assert synced.returncode == 0, synced.stderr
    assert "4 of 4 runs delivered in full" in synced.stdout
    reproduced = command("harness", "reproduce", "last")
    assert reproduced.returncode == 0, reproduced.stdout + reproduced.stderr
    assert "filelock" in reproduced.stdout
    (project / "own_trainer.py").write_text(TRAINER.replace("SLEEP", "0").replace("10)", "9)"))
    changed = command("harness", "reproduce", "last")
    assert changed.returncode != 0
    assert "what differs: own code (own_trainer.py)" in changed.stderr
    trained = command(RUN, *arguments, "tracking=none")
    assert trained.returncode == 0, trained.stderr
    assert "finished before as" not in trained.stdout
    assert len(histories(project)) == 8 + 2, "reproductions are runs as well"


@pytest.mark.fault
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_is_resumed_bit_for_bit(
    command: Command, project: Path, idx_folder: Path, how: signal.Signals
) -> None:
    arguments = own(idx_folder, "fit", "epochs=12", "tracking=none")
    assert command(RUN, *arguments).returncode == 0
    expected = only_folder(project)
    (project / "own_trainer.py").write_text(TRAINER.replace("SLEEP", "0.2"))
    process = start(project, *arguments)
    wait_for(lambda: len(run_folders(project / "outputs")) == 2)
    folder = run_folders(project / "outputs")[1]
    wait_for(lambda: len(Run(folder).history().epochs) >= 3)
    process.send_signal(how)
    process.communicate()
    wait_for(lambda: not Run(folder).is_live())
    done = command(RUN, "resume=last")
    assert done.returncode == 0, done.stderr
    history = Run(folder).history()
    assert [record["epoch"] for record in history.epochs] == list(range(1, 13))
    assert history.curve("val/error") == Run(expected).history().curve("val/error")
    assert (folder / "model/w.npy").read_bytes() == (expected / "model/w.npy").read_bytes()


def test_the_checkpoint_of_the_best_epoch_is_at_hand(
    command: Command, project: Path, idx_folder: Path
) -> None:
    done = command(RUN, *own(idx_folder, "rises", "tracking=none"))
    assert done.returncode == 0, done.stderr
    (run,) = histories(project)
    expected = {"test/error": 0.1, "best/epoch": 1, "best/val_error": 0.1}
    assert run.final == run.final | expected


def test_the_checkpoint_of_the_last_epoch_is_at_hand_where_its_weights_count(
    command: Command, project: Path, idx_folder: Path
) -> None:
    done = command(RUN, *own(idx_folder, "rises", "tracking=none", "weights=last"))
    assert done.returncode == 0, done.stderr
    (run,) = histories(project)
    last = run.curve("val/error")[-1]
    assert len(run.epochs) > 1
    expected = {"test/error": last, "best/epoch": len(run.epochs), "best/val_error": last}
    assert run.final == run.final | expected


def has_its_model(run: Run, best: int) -> None:
    """Only the checkpoint of the best epoch is left, and it predicts what was recorded."""
    (kept,) = (run.folder / "checkpoints").iterdir()
    assert kept.name == f"epoch-{best:06d}"
    x, y = run.dataset().test.arrays()
    p = np.exp(x / 255 @ np.load(kept / "w.npy"))
    p /= p.sum(axis=1, keepdims=True)
    assert run.metrics["test/error"] == np.mean(p.argmax(axis=1) != y)
    with np.load(run.folder / "predictions/test.npz") as recorded:
        np.testing.assert_allclose(p, recorded["probabilities"], rtol=1e-6)


@pytest.mark.service
def test_a_model_that_only_a_checkpoint_has_stays(
    command: Command, project: Path, idx_folder: Path
) -> None:
    """Through every command that removes or copies files of runs."""
    own_trainer = own(idx_folder, "unsaved", "trainer.unlearn_after=2", "epochs=8")
    arguments = ("-m", *own_trainer, "tracking=none", "seed=1")
    done = command(RUN, *arguments)
    assert done.returncode == 0, done.stderr
    run = harness.open("last", outputs=project / "outputs")
    assert isinstance(run, Run)
    best = int(run.metrics["best/epoch"])
    assert best < 7, "neither of the newest two"
    has_its_model(run, best)
    for words in (
        "clean", f"rm {run.id} --yes", f"restore {run.id}", f"pack {run.id} --to one.zip",
        "merge one.zip --outputs elsewhere",
    ):  # fmt: skip
        done = command("harness", *words.split())
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    has_its_model(run, best)
    has_its_model(Run(project / "elsewhere/runs" / run.id), best)
    assert f"finished before as {run.id}" in command(RUN, *arguments).stdout
    assert command("harness", "clean", "--all").returncode == 0
    assert list((run.folder / "checkpoints").iterdir()) == []


@pytest.mark.fault
def test_wrong_code_is_a_failed_run_in_one_line(
    command: Command, project: Path, idx_folder: Path
) -> None:
    names = (
        "raises", "exits", "interrupts", "dies", "nan", "nothing", "shapes", "early", "names",
        "scores", "lies", "too_early", "rude", "long", "forks", "chatty",
    )  # fmt: skip
    trainers = ",".join(f"own_trainer:{name}" for name in names)
    arguments = own(idx_folder, "fit", "tracking=none")
    arguments = tuple(each for each in arguments if not each.startswith("trainer="))
    done = command(RUN, "-m", *arguments, f"trainer={trainers}")
    assert done.returncode == 1
    runs = histories(project)
    expected = (
        "KeyError: 'something'",
        "SystemExit: 3",
        "KeyboardInterrupt (",
        "exit status 0 and no end record",
        "val/error is nan in epoch 1",
        "returned without logging an epoch",
        "expected (N,) labels and (N, C) probabilities",
        "it returned after epoch 2 without run.final(...)",
        "metric 'my metric!!': expected a name of letters",
        "expected rows of probabilities that add up to 1, found 7, 7, 7, 7, ... with the sum 70",
        "test/error is 0, and the most probable classes of the predictions are wrong for 75 of 100",
        "run.log(2, ...): called after run.final; expected run.final once, after the last run.log",
        "Rude: (its text cannot be shown: ValueError) (",
        f"ValueError: {'x' * 1000}... (",
        None,
        None,
    )
    for run, words in zip(runs, expected, strict=True):
        if words is None:
            assert run.status == "FINISHED"
            assert [record["epoch"] for record in run.epochs] == [1, 2, 3]
            continue
        assert run.status == "FAILED"
        assert run.final == {}
        assert words in str(run.error)
        assert words in done.stderr
        files = {"traceback.txt", "config.yaml", "code/own_trainer.py"}
        assert files <= set(run.artifacts) or "end record" in words
    assert "ended a forked process that returned" in done.stdout
    assert "hello from the trainer" in done.stdout


def test_the_failure_of_a_single_run_is_printed_once(
    command: Command, project: Path, idx_folder: Path
) -> None:
    done = command(RUN, *own(idx_folder, "raises", "tracking=none"))
    assert done.returncode == 1
    (run,) = histories(project)
    name, folder = f"{run.name} ({run.run})", f"outputs/runs/{run.run}"
    assert done.stderr == f"failed: {name}: {run.error}\n        more in {folder}\n"
    assert "KeyError: 'something' (" in str(run.error)
    assert (project / folder / "traceback.txt").is_file()
    again = command(RUN, f"resume={run.run}")
    assert again.stderr.count("KeyError") == 1
    direct = command("harness.job", folder)
    assert direct.stderr.startswith(f"{name} failed: KeyError: 'something' (")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer=own_trainer:missing", "own_trainer has no missing; it has "),
        ("trainer=nowhere:fit", "there is no module nowhere in "),
        ("trainer.rat=1", "trainer.rat: trainer=own_trainer:fit has no such key; did you mean"),
        ("trainer.rate=x", "trainer.rate=x: expected a finite number"),
        ("width=3", "width: trainer=own_trainer:fit has no such key; it has trainer.rate, trainer"),
        ("optimizer=adam", "optimizer: trainer=own_trainer:fit has no such key"),
        (
            "objective=val/accuracy",
            "suggests that higher is better; type objective=val/accuracy:max",
        ),
        ("experiment=best", ": trainer=own_trainer:fit has no such key"),
        ("trainer=own_trainer:generates", "that trains when it is called, found a generator, bec"),
        ("trainer=own_trainer:waits", "trains when it is called, found an async function"),
        (
            "trainer=own_trainer:default",
            "trainer.rate=abc: expected a finite number; this is its default in ",
        ),
        ("trainer=__main__:fit", "put fit into a module file such as mine.py, and type trainer=mi"),
        ("trainer=own_trainer:np", "expected a class or a function"),
        ("trainer=own_trainer:softmax", "expected a function fit(settings: Settings, run)"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_created(
    command: Command, project: Path, idx_folder: Path, override: str, expected: str
) -> None:
    done = command(RUN, *own(idx_folder, "fit"), override)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (project / "outputs").exists()


def test_a_run_without_a_network_says_which_commands_take_it(
    command: Command, project: Path, idx_folder: Path
) -> None:
    done = command(RUN, *own(idx_folder, "fit"), "tracking=none")
    assert done.returncode == 0, done.stderr
    run = only_folder(project).name
    for words in (("evaluate", "last"), ("register", "last"), ("predict", "x.png", "--run", run)):
        done = command("harness", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"error: run {run} was trained by trainer=own_trainer:fit: its model is not a network "
            "of the harness, which only the built-in trainer makes; "
            f"`python -m harness compare {run}` reads its metrics and predictions\n"
        )


def test_a_thread_that_fails_is_a_warning_and_an_artifact(
    command: Command, project: Path, idx_folder: Path
) -> None:
    done = command(RUN, *own(idx_folder, "threads", "tracking=none"))
    assert done.returncode == 0, done.stderr
    (run,) = histories(project)
    assert "a thread failed: IndexError: list index out of range (" in done.stderr
    assert "Traceback" not in done.stderr
    assert "traceback-threads.txt" in run.artifacts
    text = (only_folder(project) / "traceback-threads.txt").read_text()
    assert text.startswith("Traceback")
    assert "own_trainer.py" in text


def test_the_changed_file_is_named(command: Command, project: Path, idx_folder: Path) -> None:
    arguments = ("-m", *own(idx_folder, "fit", "tracking=none", "seed=1,2"))
    assert command(RUN, *arguments).returncode == 0
    (project / "own_trainer.py").write_text(TRAINER.replace("SLEEP", "0").replace("10)", "9)"))
    done = command(RUN, *arguments, "--dry-run")
    assert "with other source (before own_trainer.py changed, 20" in done.stderr


def test_the_keys_of_the_trainer_are_explained(command: Command, project: Path) -> None:
    done = command(RUN, "--help", "trainer=own_trainer:fit")
    assert done.returncode == 0, done.stderr
    assert any(
        line.split()[0] == "trainer.rate" and line.endswith("[0.3]")
        for line in done.stdout.splitlines()
        if line.split()
    )


def test_the_predictions_are_saved(command: Command, project: Path, idx_folder: Path) -> None:
    assert command(RUN, *own(idx_folder, "fit", "tracking=none")).returncode == 0
    folder = only_folder(project)
    with np.load(folder / "predictions/test.npz") as saved:
        assert saved["probabilities"].shape == (100, 4)
        error = float(np.mean(saved["probabilities"].argmax(axis=1) != saved["labels"]))
    assert Run(folder).metrics["test/error"] == error
    version = f"filelock: {metadata.version('filelock')}\n"
    assert version in (folder / "environment.txt").read_text()
    create = json.loads((folder / "journal.jsonl").read_text().splitlines()[0][9:])
    assert [each["path"] for each in create["code"]] == ["own_trainer.py"]
    assert create["code"][0]["root"] == str(project)


@pytest.mark.usefixtures("project")
def test_a_test_error_without_predictions_is_told_once(command: Command, idx_folder: Path) -> None:
    """It is no fault: the runs are finished."""
    for name, told in (("fit", 0), ("threads", 1)):
        done = command("harness.run", "-m", *own(idx_folder, name, "seed=1,2", "tracking=none"))
        assert done.returncode == 0
        note = (
            f"note: nothing could check test/error of 2 run(s): trainer=own_trainer:{name} did not "
            "call run.predictions\n"
        )
        assert done.stderr.count(note) == told
