"""`python -m harness confirm`: train the best settings of a search again, with new seeds."""

import os
import shlex
import sys
from pathlib import Path

import click
import yaml

from harness.commands.options import CONFIG_DIR, OUTPUTS, counted, refuse
from harness.data.atomic import write_text
from harness.data.override import in_quotes
from harness.run import conf, costs, overrides
from harness.run.overrides import CommandLine
from harness.run.search import space
from harness.runfolder import interpreter, own_code
from harness.runfolder.objective import KEY as OBJECTIVE
from harness.runfolder.plan import Plan, sweeps_folder
from harness.runfolder.selection import select

FILE = "confirm.yaml"
KEPT = ("hydra/launcher", "hydra.launcher")  # words of the search's command that are kept


@click.command()
@click.argument("study")
@counted("--top", 3, "How many of the best settings to train again.", least=2)
@counted("--seeds", 5, "How many new seeds for each setting.", least=2)
@OUTPUTS
@CONFIG_DIR
def confirm(study: str, top: int, seeds: int, outputs: Path) -> None:
    """Train the best settings of a search with new seeds, as one sweep.

    STUDY is the id or name of a search, or `last`. The best of many trials may have been lucky; new
    seeds show which setting is best. The command prints the sweep it runs; repeat it to continue.
    Without --config-dir, the folder of the search is used.
    """
    from harness.run.search import study as studies

    try:
        plan = select(outputs, [study]).plan
        if plan is None or not plan.is_search:
            raise ValueError(f"{study!r} is not a search: expected one with hydra/sweeper=optuna")
        own = _own_folders(plan)
        with conf.including([] if own_code.folders() else own):
            line = overrides.parse([word for word in plan.overrides if word != "-m"])
            fixed, parameters, _ = space.split(line.settings)
        settings = studies.best(outputs, plan.id, top, parameters)
        if len(settings) < 2:
            raise ValueError(
                f"search {plan.id} has {len(settings)} finished setting(s); expected at least two"
            )
        words = _words(plan, objectives(fixed, line), settings, seeds, outputs)
    except ValueError as error:
        refuse(error)
    folders = [f"--config-dir={folder}" for folder in own]
    print(shlex.join(["python", "-m", "harness.run", *folders, *words]), flush=True)
    os.execv(sys.executable, [*interpreter.running("harness.run"), *folders, *words])


def _own_folders(plan: Plan) -> list[str]:
    """The folder given with `--config-dir`, else the search's folder; at most one.

    Raises `ValueError` if that folder no longer exists.
    """
    if given := own_code.folders():
        return list(map(str, given))
    if plan.config_dir and not Path(plan.config_dir).is_dir():
        raise ValueError(
            f"search {plan.id} was made with --config-dir {plan.config_dir}, which is not there "
            "any more; type --config-dir DIR with the folder that has its files now"
        )
    return [plan.config_dir] if plan.config_dir else []


def objectives(fixed: list[str], line: CommandLine) -> list[str]:
    """The fixed overrides with all objectives; those of the line name only the first one."""
    return [
        costs.typed(line.costs, text.partition("=")[2])
        if line.costs and text.partition("=")[0] == OBJECTIVE
        else text
        for text in fixed
    ]


def _words(
    plan: Plan, fixed: list[str], settings: list[dict[str, str]], seeds: int, outputs: Path
) -> list[str]:
    """Write the sweep file; return the arguments of the command."""
    used = [int(run.config.seed) for run in plan.readable_runs(outputs)]
    first = max(used, default=0) + 1
    path = sweeps_folder(outputs) / plan.id / FILE
    content = {"grids": settings, space.SEED: f"range({first},{first + seeds})"}
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    same = [text for text in fixed if text.partition("=")[0].lstrip("+") not in ("outputs", "seed")]
    launcher = [word for word in plan.overrides if word.startswith(KEPT)]
    places = (("outputs", outputs), ("sweep", path))
    return ["-m", *launcher, *same, *(f"{key}={in_quotes(str(at))}" for key, at in places)]
