"""How much of a run's journal the tracking store has: the run folder's `delivered.json`."""

import json
from pathlib import Path
from typing import Any

FILE_NAME = "delivered.json"


def read(folder: Path) -> dict[str, Any]:
    """The content of `delivered.json`; empty when it is missing or unreadable.

    Keys: store (`Target.key`), identity (which store answered there, see `Store.identity`),
    experiment_id, mlflow_id, offset (bytes of the journal), refused (record number -> reason),
    damaged (path -> how a file that was not sent differs from its record), was_deleted (whether the
    run was seen deleted in the store), keeps_note (how many records leave the note of the store
    alone, since somebody else wrote it).
    """
    try:
        state = json.loads((folder / FILE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
