"""`python -m harness results`: the test results of the recipes, from their runs.

A run counts for a recipe if it is finished and has all of the recipe's settings that determine the
result, except the seed and the backend. A run with an override is a different experiment.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from harness.commands.options import JSON, OUTPUTS, URI, refuse
from harness.nn import metrics
from harness.run import compose
from harness.runfolder import config as configuration
from harness.runfolder import versions
from harness.runfolder.folder import check_outputs
from harness.runfolder.keys import determines_result
from harness.runfolder.objective import DEFAULT, Objective
from harness.runfolder.schema import Config, ScratchConfig
from harness.runfolder.status import RunStatus
from harness.tracking.errors import StoreError
from harness.tracking.recorded import Recorded
from harness.tracking.selection import select

# The recipes, and what others report for a comparable network.
PUBLISHED = {
    "default": "",
    "article": "1.97 % (the tutorial this project grew from)",
    "speed98": "",
    "speed99": "",
    "dropout": "1.06 % with max-norm (Srivastava et al., 2014); 0.78 % adversarial, maxout "
    "(Goodfellow et al., 2015)",
    "quick": "",
    "best": "0.7 %, one hidden layer of 800 (Simard et al., 2003); 0.35 %, 2500-2000-1500-1000-500 "
    "(Ciresan et al., 2010)",
    "conv": "0.4 %, two convolutions, elastic (Simard et al., 2003)",
    "fashion": "",
}
SHORT_S = 10  # training times up to this are shown with a decimal
MANY = 5  # more consecutive seeds than this are shown as a range
FREE = ("seed", "backend")  # settings that determine the result but that a recipe leaves open


@click.command()
@OUTPUTS
@URI
@JSON
def results(outputs: Path, uri: str | None, *, as_json: bool) -> None:
    """Print the recipes' test results as a Markdown table."""
    try:
        rows = table(outputs, uri)
    except (ValueError, StoreError) as error:
        refuse(error)
    if as_json:
        recipes = [row.fields() for row in rows]
        content = {"format": "harness results", "version": 1, "recipes": recipes}
        click.echo(json.dumps(content, indent=1, allow_nan=False))
    elif rows:
        click.echo(markdown(rows))
    else:
        names = ", ".join(PUBLISHED)
        click.echo(
            f"{uri or outputs}: no finished run of a recipe ({names}); train one: "
            "python -m harness.run experiment=quick",
            err=True,
        )


@dataclass(frozen=True)
class RecipeRun:
    """A finished run: seed, its objective's test metric, training seconds and BLAS threads."""

    seed: int
    test: float
    seconds: float
    threads: str


@dataclass(frozen=True)
class RecipeResult:
    """A recipe, its network in words, and its newest finished run for each seed.

    objective: the metric that chose the weights; its test metric is shown.
    """

    recipe: str
    network: str
    objective: Objective
    runs: tuple[RecipeRun, ...]

    def fields(self) -> dict[str, Any]:
        """The result for programs."""
        runs = [
            {**asdict(run), "test": run.test if math.isfinite(run.test) else None}
            for run in self.runs
        ]
        return {
            "recipe": self.recipe,
            "network": self.network,
            "test_metric": self.objective.test_key,
            "runs": runs,
            "published": PUBLISHED[self.recipe],
        }


def table(outputs: Path, uri: str | None = None) -> list[RecipeResult]:
    """The recipes with finished runs, from the journals, or from the tracking store `uri`.

    Raises `StoreError` or `ValueError`.
    """
    if uri is None:
        check_outputs(outputs)
    chosen = select(outputs, (), uri)
    finished = [run for run in chosen.recorded if run.status is RunStatus.FINISHED]
    settings = [versions.completed(run.params) for run in finished]
    rows = []
    for recipe in PUBLISHED:
        config = compose.compose_one(_overrides(recipe))
        its = [run for run, its in zip(finished, settings, strict=True) if _is_of(config, its)]
        if its:
            chosen.source.add_curves(its, (metrics.EPOCH_S,))
            objective = Objective.parse(config.objective)
            rows.append(RecipeResult(recipe, network(config), objective, _by_seed(its, objective)))
    return [row for row in rows if row.runs]


def markdown(rows: list[RecipeResult]) -> str:
    """The table as Markdown: mean and standard deviation over seeds, mean seconds."""
    titles = {row.objective.test_title for row in rows} or {DEFAULT.test_title}
    test = next(iter(titles)) if len(titles) == 1 else "test"
    lines = [
        f"| recipe | network | {test} | seeds | training | published |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        objective, values = row.objective, [run.test for run in row.runs]
        spread = ""
        if len(values) > 1:
            deviation = objective.factor * statistics.stdev(values)
            spread = f" ± {deviation:.2f}" if objective.is_fraction else f" ± {deviation:.2g}"
        name = "" if len(titles) == 1 else f"{row.objective.name} "
        threads = ", ".join(sorted({run.threads for run in row.runs}))
        seconds = statistics.mean(run.seconds for run in row.runs)
        digits = 1 if seconds < SHORT_S else 0
        seeds = _spelled([run.seed for run in row.runs])
        lines.append(
            f"| `{row.recipe}` | {row.network} | {name}"
            f"{objective.number(statistics.mean(values))}{spread} | {seeds} "
            f"| {seconds:.{digits}f} s, {threads} thread(s) | {PUBLISHED[row.recipe]} |"
        )
    return "\n".join(lines)


def _overrides(recipe: str) -> list[str]:
    return [] if recipe == "default" else [f"experiment={recipe}"]


def network(config: Config) -> str:
    """The network of a recipe in words."""
    assert isinstance(config, ScratchConfig), "the recipes are of the built-in trainer"
    widths: Sequence[object] = (
        config.hidden if config.model.name == "mlp" else _listed(config.width)
    )
    before = "" if config.model.name == "mlp" else f"{config.model.name} "
    if channels := config.model.options.get("channels"):
        before += f"{'-'.join(map(str, channels))}, "
    return f"{before}{'-'.join(map(str, widths))} {config.activation.name}"


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _spelled(seeds: list[int]) -> str:
    """Seeds as text; many consecutive ones as their range."""
    if len(seeds) > MANY and sorted(seeds) == [*range(min(seeds), max(seeds) + 1)]:
        return f"{min(seeds)} to {max(seeds)}"
    return ", ".join(map(str, seeds))


def _is_of(config: Config, params: Mapping[str, Any]) -> bool:
    """Whether a run with these settings belongs to the recipe `config`."""
    return all(
        str(params.get(key)) == str(value)
        for key, value in configuration.leaves(config).items()
        if determines_result(key) and key not in FREE
    )


def _by_seed(runs: Sequence[Recorded], objective: Objective) -> tuple[RecipeRun, ...]:
    """The newest run of each seed. runs: oldest first."""
    found = {
        int(run.params["seed"]): RecipeRun(
            int(run.params["seed"]),
            run.final[objective.test_key],
            float(run.curves[metrics.EPOCH_S].sum()),
            run.tags.get("threads", "?"),
        )
        for run in runs
        if objective.test_key in run.final
    }
    return tuple(found[seed] for seed in sorted(found))
