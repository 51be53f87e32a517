"""Random damage to every file under `outputs`, followed by every command.

No command may end with a traceback or hang, and none may call wrong results right: after a `sync`
that exits 0, the run folders and the store are what they were before the damage; a resumed run
that finishes has the weights that it has without damage; a prediction that is printed is the one
that the undamaged run gives.

A trial is one damage and a few commands, all drawn from its number. CI runs `TRIALS`; more by

    HARNESS_FUZZ=1000 python -m pytest tests/fuzz/test_outputs.py
"""

import os
import random
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.runfolder import journal
from harness.runfolder.folder import all_runs
from harness.tracking.files import REPORTS
from tests.conftest import RUN, command_in, small, start, wait_for, write_idx_folder
from tests.forked import LIMIT_S, forked, preload

TRIALS = 8
RUN_COMMANDS = ("resume", "repeat")
COMMANDS = ("status", "compare", "results", "predict", "evaluate", "clean", "sync")

pytestmark = pytest.mark.fault


class Outputs:
    """A working directory with a delivered sweep, an interrupted run, and a copy of both."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pristine = folder / "work", folder / "pristine"
        self.folder.mkdir()
        idx_folder = write_idx_folder(folder / "idx")
        run = command_in(self.folder)
        self.sweep = ("-m", *small(idx_folder, "epochs=3", "seed=1,2", "lr=0.1"))
        done = run(RUN, *self.sweep)
        assert done.returncode == 0, done.stderr
        self.finished = [each.id for each in all_runs(self.folder / "outputs")]
        self._interrupt(idx_folder)
        image = np.zeros((6, 5), np.uint8)
        image[2:4] = 200
        Image.fromarray(image).save(self.folder / "x.png")
        assert run("harness", "sync").returncode == 0
        shutil.copytree(self.folder, self.pristine)
        self.files = sorted(
            path.relative_to(self.folder)
            for path in (self.folder / "outputs").rglob("*")
            if path.is_file() and not path.name.endswith((".lock", "-wal", "-shm"))
        )
        self.expected = {name: self.call(name) for name in ("predict", "evaluate", "resume")}
        assert [status for status, _ in self.expected.values()] == [0, 0, 0], self.expected
        self.weights = self.resumed_weights()
        self.restore()
        self.state = self.read_state()

    def _interrupt(self, idx_folder: Path) -> None:
        process = start(self.folder, *small(idx_folder, "epochs=400", "seed=3", "lr=0.1"))

        def has_started() -> bool:
            newest = all_runs(self.folder / "outputs")[-1]
            return newest.id not in self.finished and len(newest.history().epochs) > 20

        wait_for(has_started)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_S)
        self.interrupted = all_runs(self.folder / "outputs")[-1].id

    def restore(self) -> None:
        """Undo the damage and everything that commands did."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.pristine, self.folder)

    def resumed_weights(self) -> bytes:
        """The last weights of the interrupted run; empty when there are none."""
        path = self.folder / f"outputs/runs/{self.interrupted}/weights/last.safetensors"
        return path.read_bytes() if path.is_file() else b""

    def read_state(self) -> dict[str, object]:
        """What results consist of: the recorded files, and the rows and files of the store."""
        outputs = self.folder / "outputs"
        state: dict[str, object] = {}
        for run in all_runs(outputs):
            records, _, _ = journal.read(run.folder / "journal.jsonl")
            # Reports are attached after the end: a journal cut there looks like one before them.
            state[f"{run.id}/journal"] = [each for each in records if not is_of_report(each)]
            paths = [path for path in run.history().artifacts if not path.startswith(REPORTS)]
            for path in ("config.yaml", *paths):
                state[f"{run.id}/{path}"] = (run.folder / path).read_bytes()
        with closing(sqlite3.connect(outputs / "mlflow.db")) as database:
            tags = "SELECT run_uuid, value FROM tags WHERE key = 'run.id'"
            names = dict(database.execute(tags).fetchall())  # a store that was lost gives new ids
            for table in ("metrics", "params"):
                rows = database.execute(f"SELECT * FROM {table}").fetchall()
                named = [tuple(names.get(value, value) for value in row) for row in rows]
                state[table] = sorted(map(repr, named))
        for path in sorted((outputs / "artifacts").rglob("*")):
            if path.is_file() and "report" not in path.parts:  # `compare` may store a newer one
                parts = path.relative_to(outputs).parts
                run_id = names.get(parts[2], parts[2])
                # What a lost store left behind belongs to no run of the new one.
                if parts[2] in names:
                    state["/".join((*parts[:2], run_id, *parts[3:]))] = path.read_bytes()
        return state

    def call(self, name: str) -> tuple[int, str]:
        """The exit status and the output of one command; see `arguments`."""
        if name in RUN_COMMANDS:
            words = self.sweep if name == "repeat" else (f"resume={self.interrupted}",)
            done = command_in(self.folder)(RUN, *words, timeout=LIMIT_S)
            return done.returncode, done.stdout + done.stderr
        words = {
            "predict": ("predict", "--run", self.finished[0], "x.png"),
            "evaluate": ("evaluate", self.finished[0]),
            "clean": ("clean", "--dry-run"),
            "compare": ("compare", "--no-attach"),
        }.get(name, (name,))
        done = forked(self.folder, *words)
        return done.returncode, done.stdout + done.stderr


def damage(file: Path, generator: random.Random) -> str:
    """Do something to a file that disks, people and other programs do; returns what."""
    content = file.read_bytes()
    size = len(content)
    kind = generator.choice(("empty", "cut", "flip", "remove", "garbage", "append", "folder"))
    if kind == "remove" or (kind in ("cut", "flip") and size == 0):
        file.unlink()
        return "remove"
    if kind == "folder":
        file.unlink()
        file.mkdir()
        return kind
    at = generator.randrange(size) if size else 0
    if kind == "flip":
        flipped = content[at] ^ 1 << generator.randrange(8)
        content = content[:at] + bytes([flipped]) + content[at + 1 :]
    elif kind == "garbage":
        content = generator.randbytes(max(size, 16))
    elif kind == "append":
        content += generator.randbytes(16)
    else:
        content = content[: at if kind == "cut" else 0]
    file.write_bytes(content)
    return f"{kind} at {at} of {size}"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    preload()
    return Outputs(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("number", range(int(os.environ.get("HARNESS_FUZZ", TRIALS))))
def test_damage_is_repaired_or_named(outputs: Outputs, number: int) -> None:
    generator = random.Random(number)
    outputs.restore()
    path = generator.choice(outputs.files)
    what = f"{damage(outputs.folder / path, generator)} {path}"
    commands = generator.sample(COMMANDS, 3)
    if generator.random() < 0.2:
        commands.append(generator.choice(RUN_COMMANDS))
    for name in [*commands, "sync"]:
        status, text = outputs.call(name)
        case = f"{what}: {name} exits {status}: {text}"
        assert "Traceback" not in text, case
        assert status in (0, 1, 2, 3), case
        if name == "sync" and status == 0 and "repeat" not in commands:
            state = outputs.read_state()
            if "resume" not in commands:
                assert state == outputs.state, f"{case}: {different(state, outputs.state)}"
        if name == "resume" and status in (0, 3):
            assert outputs.resumed_weights() == outputs.weights, case
        if name in ("predict", "evaluate") and status == 0:
            assert text == outputs.expected[name][1], case


def is_of_report(record: dict[str, object]) -> bool:
    return record["kind"] == "artifact" and str(record["path"]).startswith(REPORTS)


def different(now: dict[str, object], before: dict[str, object]) -> list[str]:
    """What two states do not have in common."""
    return [key for key in now | before if now.get(key) != before.get(key)]
