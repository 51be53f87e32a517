"""How much of a run's journal the tracking store has: the run folder's `delivered.json`."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.runfolder.hint import hint

FILE_NAME = "delivered.json"
MOST_NAMED = 3
RENAMED = "renamed"


def read(folder: Path) -> dict[str, Any]:
    """The content of `delivered.json`; empty if it is missing or unreadable.

    Keys: store (`Target.key`), identity (which store answered there, see `Store.identity`),
    experiment_id, mlflow_id, offset (delivered bytes of the journal), refused (record number ->
    reason), damaged (path -> how a file that was not sent differs from its record), was_deleted
    (whether the run was seen deleted in the store), keeps_note (how many of the first records do
    not overwrite the store's note, because somebody else wrote it), renamed (the store's name of
    the run's experiment, if it differs from the run's).
    """
    try:
        state = json.loads((folder / FILE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def deleted(folders: Iterable[Path]) -> list[str]:
    """One line about the runs that were deleted in their store; empty if there are none."""
    gone = [each for each in folders if read(each).get("was_deleted")]
    if not gone:
        return []
    names, outputs = [each.name for each in gone], gone[0].parents[1]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return [
        f"{len(names)} run(s) were deleted in MLflow and still count here: "
        f"{', '.join(names[:MOST_NAMED])}{more}; "
        f"`{hint('rm', outputs=outputs)}` removes them here too"
    ]
