"""`python -m harness tag`: set a custom tag of runs."""

import re
import sys
from pathlib import Path

import click

from harness.commands.note import add_tags, deliver
from harness.commands.options import OUTPUTS, at_rest, refuse
from harness.runfolder.history import USER
from harness.runfolder.status import ExitStatus

KEY = re.compile(r"[A-Za-z][\w-]{0,99}")  # no dot: tags with a dot are the harness's own
MOST_VALUE = 1000
RESERVED = frozenset({
    "archived", "backend", "command", "error", "host", "nonfinite", "pruned", "refused",
    "reproduces", "run_key", "sweep", "threads",
})  # fmt: skip


@click.command()
@click.argument("selection", nargs=-1, metavar="SELECTION...")
@click.argument("pair", metavar="KEY=VALUE")
@OUTPUTS
def tag(selection: tuple[str, ...], pair: str, outputs: Path) -> None:
    """Set a tag of runs, or of all runs of a sweep; KEY= removes it.

    SELECTION is as for `compare`; there, "tags.KEY = 'VALUE'" then selects the runs. `status` and
    MLflow show the tag.
    """
    try:
        key, value = _checked(pair)
        if not selection:
            raise ValueError(f"tag {pair}: the selection is missing; type tag SELECTION KEY=VALUE")
        chosen = at_rest(outputs, selection, "tag")
    except ValueError as error:
        refuse(error)
    written = add_tags(chosen.runs, {key: value}, by=USER)
    print(f"{chosen.title}: {'tagged' if value else 'tag removed'} ({len(written)} run(s))")
    sys.exit(ExitStatus.FAILED if len(written) < len(chosen.runs) else deliver(written))


def _checked(pair: str) -> tuple[str, str]:
    """The key and the value. Raises `ValueError`."""
    key, equals, value = pair.partition("=")
    if not equals or not KEY.fullmatch(key):
        raise ValueError(
            f"{pair!r}: expected KEY=VALUE as the last word, such as team=vision; a key has "
            "letters, digits, - and _"
        )
    if key in RESERVED:
        raise ValueError(f"{pair!r}: {key} is a tag of the harness's own; take another key")
    if len(value) > MOST_VALUE or not value.isprintable():
        raise ValueError(f"{pair[:40]!r}: expected one line of at most {MOST_VALUE} characters")
    return key, value
