"""Faults put into a real job from outside: a `sitecustomize` whose audit hook strikes at a write.

Python runs it in every process that finds it on PYTHONPATH; it acts in jobs only.
"""

import os
from pathlib import Path

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
    if event == "open" and "epoch-000002" in str(arguments[0]):
        folder = os.path.dirname(os.path.dirname(str(arguments[0])))
        with open(os.path.join(folder, "config.yaml")) as file:
            seed = next(int(line[5:]) for line in file if line.startswith("seed:"))
        FAULTS.get(seed, int)()
"""

# A job is told to end as it opens a file of this name.
TOLD_TO_END = """
import signal

def strike(event, arguments):
    if event == "open" and NAME in str(arguments[0]):
        signal.raise_signal(signal.SIGTERM)
"""

# A job that connects to anything, or imports what could, ends at once with status 97.
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


def environment(place: Path, what: str) -> dict[str, str]:
    """Write the hook into `place`; returns the environment that makes jobs load it."""
    place.mkdir()
    (place / "sitecustomize.py").write_text(what + INSTALL)
    paths = [str(place), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
