"""Commands that messages tell the user to type."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.data.override import in_quotes

DEFAULT = Path("outputs")  # of conf/config.yaml; commands look there by default


def hint(*words: str, outputs: Path | Sequence[Path]) -> str:
    """A command of `python -m harness` for these outputs folders."""
    folders = [outputs] if isinstance(outputs, Path) else outputs
    elsewhere = [] if list(folders) == [DEFAULT] else folders
    options = [word for folder in elsewhere for word in ("--outputs", str(folder))]
    return shlex.join(["python", "-m", "harness", *words, *options])


def continuing(run_id: str, outputs: Path) -> str:
    """The command that continues a run of this outputs folder."""
    elsewhere = [] if outputs == DEFAULT else [f"outputs={in_quotes(str(outputs))}"]
    return shlex.join(["python", "-m", "harness.run", f"resume={run_id}", *elsewhere])
