"""Faults injected into a real job: a `sitecustomize` with an audit hook that acts on file opens.

Python runs it in every process that finds it on PYTHONPATH; it acts in jobs only.
"""

from pathlib import Path

from tests.conftest import python_path

STRIKE = """
import os, signal, sys

FAULTS = {
    1: lambda: (_ for _ in ()).throw(RuntimeError("a bug of its own")),
    2: lambda: sys.exit(0),
    3: lambda: os._exit(0),
    4: lambda: os.kill(os.getpid(), signal.SIGKILL),
    5: lambda: os.kill(os.getpid(), signal.SIGSEGV),
    6: lambda: (_ for _ in ()).throw(MemoryError()),
}

def strike(event, arguments):
    if event == "open" and "/checkpoints/.epoch-000002/" in str(arguments[0]):
        folder = str(arguments[0]).partition("/checkpoints/")[0]
        with open(os.path.join(folder, "config.yaml")) as file:
            seed = next(int(line[5:]) for line in file if line.startswith("seed:"))
        FAULTS.get(seed, int)()
"""

# A job gets SIGTERM when it opens a file of this name.
TERMINATE = """
import signal

def strike(event, arguments):
    if event == "open" and NAME in str(arguments[0]):
        signal.raise_signal(signal.SIGTERM)
"""

# What a job does when it removes the files of a checkpoint.
REMOVAL = """
import os, signal

FAULTS = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "refused": lambda: (_ for _ in ()).throw(PermissionError(1, "not permitted", "state")),
}

def strike(event, arguments):
    if event == "shutil.rmtree" and "/checkpoints/" in str(arguments[0]):
        FAULTS[FAULT]()
"""

# The second checkpoint of the first run, that of seed 1, removes its folder, or all outputs.
REMOVE = """
import os, shutil

def strike(event, arguments):
    if event == "open" and "/checkpoints/.epoch-000002/" in str(arguments[0]):
        folder = str(arguments[0]).partition("/checkpoints/")[0]
        try:
            with open(os.path.join(folder, "config.yaml")) as file:
                if "\\nseed: 1\\n" in file.read():
                    shutil.rmtree(os.path.normpath(REMOVED.format(folder=folder)))
        except FileNotFoundError:
            pass
"""

# A job that connects to anything, or imports what could, exits at once with status 97.
WATCH = """
import os

def strike(event, arguments):
    if event == "socket.connect" or (
        event == "import" and arguments[0].split(".")[0] in ("mlflow", "hydra", "requests")
    ):
        os._exit(97)
"""

INSTALL = """
import sys
if "harness.job" in sys.orig_argv:
    sys.addaudithook(strike)
"""


def environment(folder: Path, fault: str) -> dict[str, str]:
    """Write the hook into `folder`; returns the environment that makes jobs load it."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(fault + INSTALL)
    return python_path(folder)
