"""`python -m harness du`: show disk usage."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from harness.commands.options import JSON, PRESENT_OUTPUTS, limited, refuse
from harness.run.fitted_table import FittedTable, show
from harness.runfolder.run import Run
from harness.runfolder.selection import Outputs
from harness.runfolder.usage import ARTIFACTS, Usage, measure

SHOWN = ("checkpoints", "weights", "predictions", ARTIFACTS)  # columns of the second table


@click.command()
@click.argument("selection", nargs=-1)
@PRESENT_OUTPUTS
@limited(10, "largest")
@JSON
def du(selection: tuple[str, ...], outputs: Path, limit: int, *, as_json: bool) -> None:
    """Show disk usage by kind, and by sweep or run, largest first.

    SELECTION is as for `status`; the default is everything in outputs. A file that a run shares
    with the store in outputs is counted once, with the run.
    """
    listed = Outputs([outputs])
    try:
        runs = list(listed.select(selection).runs if selection else listed.runs)
    except ValueError as error:
        refuse(error)
    usage = measure(outputs, runs, everything=not selection)
    names = {plan.id: plan.about.name for _, plan, _ in listed.plans}
    groups = _groups(runs, usage, names)
    if as_json:
        print(json.dumps(_fields(runs, usage, groups), indent=1))
    else:
        show(_kinds_table(usage), *([_groups_table(groups[:limit])] if groups[:limit] else []))
    for problem in usage.unreadable:
        print(f"not counted: {problem}", file=sys.stderr)


def _groups(
    runs: Sequence[Run], usage: Usage, names: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """The disk usage of each sweep, and of each run without a sweep, largest first.

    A run that is in several sweeps counts with the first one.
    """
    groups: dict[str, dict[str, Any]] = {}
    fields: dict[str, Any]
    for run in runs:
        sweep = run.history().tags.get("sweep", "").partition(",")[0]
        name = names.get(sweep) if sweep else run.name
        fields = {"id": sweep or run.id, "name": name or None, "runs": 0, "bytes": 0, "kinds": {}}
        group = groups.setdefault(sweep or run.id, fields)
        group["runs"] += 1
        for kind, size in usage.runs[run.id].items():
            group["bytes"] += size
            group["kinds"][kind] = group["kinds"].get(kind, 0) + size
    return sorted(groups.values(), key=lambda group: group["bytes"], reverse=True)


def _fields(
    runs: Sequence[Run], usage: Usage, groups: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Both tables as JSON values, in bytes."""
    each = [
        {"run": run.id, "name": run.name, "bytes": sum(usage.runs[run.id].values()),
         "kinds": usage.runs[run.id]}
        for run in runs
    ]  # fmt: skip
    return {
        "format": "harness du",
        "version": 1,
        "bytes": sum(usage.kinds.values()),
        "kinds": usage.kinds,
        "largest": list(groups),
        "runs": sorted(each, key=lambda fields: fields["bytes"], reverse=True),
        "unreadable": list(usage.unreadable),
    }


def _kinds_table(usage: Usage) -> FittedTable:
    table = FittedTable("disk")
    table.add("kind")
    table.add("MB", right=True)
    for kind, size in usage.kinds.items():
        table.add_row(kind, _mb(size))
    table.add_row("total", _mb(sum(usage.kinds.values())))
    return table


def _groups_table(groups: Sequence[Mapping[str, Any]]) -> FittedTable:
    table = FittedTable("largest sweeps and runs, in MB")
    table.add("sweep or run")
    table.add("name", folds=True, drop=1)
    table.add("runs", right=True, drop=2)
    for kind in SHOWN:
        table.add(kind, right=True, drop=3)
    table.add("total", right=True)
    for group in groups:
        sizes = (_mb(group["kinds"].get(kind, 0)) for kind in SHOWN)
        table.add_row(
            group["id"], group["name"] or "-", str(group["runs"]), *sizes, _mb(group["bytes"])
        )
    return table


def _mb(size: int) -> str:
    return f"{size / 1e6:,.2f}"
