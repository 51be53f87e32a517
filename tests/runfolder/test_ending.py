"""Code of the user's that ends the process of a command is one line and no success."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, RUN, Command, python_path, small

ENDINGS = {
    "os._exit(0)": "os._exit(0) would end the command, in ",
    "os.execv('/bin/true', ['true'])": "os.execv('/bin/true', ['true']) would end the command, in ",
    "sys.exit(0)": "SystemExit: 0",
    "sys.exit()": "SystemExit (",
    "raise BaseException('odd')": "BaseException: odd",
}
DATA = """
import os, sys
import numpy as np

def data():
    {ending}
    return {{}}
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_module_that_ends_the_command_while_it_is_imported(
    command: Command, tmp_path: Path, ending: str
) -> None:
    (tmp_path / "ends.py").write_text(f"import os, sys\n{ending}\n")
    done = command(RUN, "trainer=ends:fit")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: trainer=ends:fit: ")
    assert ENDINGS[ending] in done.stderr
    assert f"{tmp_path}/ends.py, line 2)" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_function_that_ends_the_command(command: Command, tmp_path: Path, ending: str) -> None:
    (tmp_path / "ends.py").write_text(DATA.format(ending=ending))
    done = command(RUN, "dataset=ends:data")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: dataset=ends:data: ")
    assert ENDINGS[ending] in done.stderr
    assert done.stderr.count("\n") == 1


def test_elsewhere_it_is_no_success_either(command: Command, tmp_path: Path) -> None:
    """A default that is made when the keys are read, which nothing else looks after."""
    (tmp_path / "ends.py").write_text(
        "import dataclasses, sys\n\n"
        "@dataclasses.dataclass\nclass Settings:\n"
        "    rate: float = dataclasses.field(default_factory=lambda: sys.exit(0))\n\n"
        "def fit(settings: Settings, run):\n    pass\n"
    )
    done = command(RUN, "trainer=ends:fit")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: SystemExit: 0 ({tmp_path}/ends.py, line 5)\n"


def test_a_forked_process_may_end_itself(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    (tmp_path / "forks.py").write_text(
        "import os\n\nif os.fork() == 0:\n    os._exit(0)\nos.wait()\n\n"
        "def noise(input_shape):\n    return lambda pixels, generator, out: None\n"
    )
    done = command(RUN, *small(idx_folder), "augmentation=forks:noise", "--dry-run")
    assert done.returncode == 0, done.stderr


def test_another_command_does_not_end_as_if_it_succeeded(tmp_path: Path) -> None:
    code = (
        "import sys, click\nfrom harness import __main__ as main\n"
        "main.Commands.get_command = lambda *_: click.Command('x', callback=lambda: sys.exit(0))\n"
        "sys.argv = ['harness', 'x']\nmain.console_script()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | python_path(ROOT), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: SystemExit: 0")
