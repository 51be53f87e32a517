"""`python -m harness export`: results as tables, LaTeX, sentences and figures; data sets as JSON.

`export json` writes the extracted sets as JSON. The tutorial does so to skip extraction in later
runs; here it serves as a comparison. The memory-mapped cache is smaller and opens a thousand times
faster (`python tests/benchmarks/bench_cache.py` prints both).
"""

import json
import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.analysis import frames
from harness.commands.options import EVERY_OUTPUTS, OUTPUTS, URI, measured, refuse
from harness.data import dataset, own_data
from harness.data.atomic import write_bytes, write_text
from harness.data.dataset import Dataset
from harness.runfolder import streams
from harness.tracking.errors import StoreError
from harness.tracking.selection import newest_sweep, select

if TYPE_CHECKING:
    from harness.analysis.frames import Frame
    from harness.analysis.measure import Measure
    from harness.analysis.page import Figure
    from harness.analysis.ranking import Standing

NAME = 60  # maximum length of a figure's file name
SELECTION = click.argument("selection", nargs=-1)
FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice(frames.FORMATS),
    help="Default: by the file's name, else csv.",
)
TO = click.option(
    "--to", type=click.Path(path_type=Path), help="The file. Default: standard output."
)


@click.group()
def export() -> None:
    """Write results as tables, LaTeX, sentences and figures, and data sets as JSON."""


@export.command("runs")
@SELECTION
@click.option("--all-settings", is_flag=True, help="Include settings that do not differ.")
@FORMAT
@TO
@EVERY_OUTPUTS
@URI
def export_runs(
    selection: tuple[str, ...], all_settings: bool, form: str | None, to: Path | None,
    outputs: tuple[Path, ...],
    uri: str | None,
) -> None:  # fmt: skip
    """Write one row per run: status, times, settings, and the last value of each metric.

    SELECTION is as for `compare`; the default is all runs.
    """
    _write(
        lambda: frames.runs(*selection, outputs=outputs, uri=uri, every_setting=all_settings),
        form, to,
    )  # fmt: skip


@export.command("curves")
@SELECTION
@click.option("--metric", "only", multiple=True, help="Only this metric; may be repeated.")
@FORMAT
@TO
@EVERY_OUTPUTS
@URI
def export_curves(
    selection: tuple[str, ...], only: tuple[str, ...], form: str | None, to: Path | None,
    outputs: tuple[Path, ...],
    uri: str | None,
) -> None:  # fmt: skip
    """Write one row for each value of a metric: run, epoch, metric, value.

    SELECTION is as for `compare`; the default is all runs.
    """
    _write(lambda: frames.curves(*selection, outputs=outputs, uri=uri, only=only or None), form, to)


@export.command("settings")
@SELECTION
@FORMAT
@TO
@EVERY_OUTPUTS
@URI
@measured
def export_settings(
    selection: tuple[str, ...], form: str | None, to: Path | None, outputs: tuple[Path, ...],
    uri: str | None, measure: "Measure | None",
) -> None:  # fmt: skip
    """Write one row per setting, ranked as `compare` does: n, mean, sd, test against the best.

    SELECTION is as for `compare`; the default is all runs.
    """
    _write(lambda: frames.ranking(selection, outputs, uri, measure), form, to)


@export.command("latex")
@SELECTION
@TO
@EVERY_OUTPUTS
@URI
@measured
def export_latex(
    selection: tuple[str, ...], to: Path | None, outputs: tuple[Path, ...],
    uri: str | None, measure: "Measure | None",
) -> None:  # fmt: skip
    """Write the ranking as a LaTeX table (booktabs), with a caption that names the tests.

    SELECTION is as for `compare`; the default is the newest sweep.
    """
    from harness.analysis import latex

    def text() -> str:
        name, data, standings, _ = _ranking(selection, outputs, uri, measure)
        return latex.table(standings, data=data, label=name)

    _write_text(text, to)


@export.command("sentence")
@SELECTION
@TO
@EVERY_OUTPUTS
@URI
@measured
def export_sentence(
    selection: tuple[str, ...], to: Path | None, outputs: tuple[Path, ...],
    uri: str | None, measure: "Measure | None",
) -> None:  # fmt: skip
    """Write one sentence per claim of the ranking, with its numbers, test and p value.

    SELECTION is as for `compare`; the default is the newest sweep.
    """
    from harness.analysis.sentences import sentences

    def text() -> str:
        _, data, standings, verdict = _ranking(selection, outputs, uri, measure)
        lines = sentences(standings, data=data, verdict=verdict)
        return "".join(f"{line}\n" for line in lines)

    _write_text(text, to)


@export.command("figures")
@SELECTION
@click.option("--format", "form", type=click.Choice(["pdf", "svg", "png"]), default="pdf",
              show_default=True)  # fmt: skip
@click.option("--width", type=click.FloatRange(1, 20), default=3.35, show_default=True,
              help="Inches; a column of a paper by default.")  # fmt: skip
@click.option("--to", type=click.Path(path_type=Path), default=Path("figures"), show_default=True,
              help="The folder.")  # fmt: skip
@EVERY_OUTPUTS
@URI
@measured
def export_figures(
    selection: tuple[str, ...], form: str, width: float, to: Path, outputs: tuple[Path, ...],
    uri: str | None, measure: "Measure | None",
) -> None:  # fmt: skip
    """Write each figure of the report to a file, one column wide, with its fonts embedded.

    SELECTION is as for `compare`; the default is the newest sweep.
    """
    from harness.analysis import compare

    try:
        if math.isnan(width):
            raise ValueError("--width nan: expected inches, from 1 to 20")
        own_data.check_folder(to)
        selected = select(outputs, selection or [newest_sweep(outputs, uri)], uri)
        comparison, _ = compare.build(selected, outputs, measure)
        if not comparison.figures:
            raise ValueError(
                f"{selected.title}: there is nothing to draw: no metric by epoch or step, no swept "
                "number, no predictions"
            )
    except (ValueError, StoreError) as error:
        refuse(error)
    for note in comparison.notes:
        click.echo(f"note: {note}", err=True)
    to.mkdir(parents=True, exist_ok=True)
    for name, figure in file_names(comparison.figures).items():
        path = to / f"{name}.{form}"
        write_bytes(path, figure.chart.file(form, width))
        click.echo(f"{path}  {figure.title}")


def file_names(figures: "Sequence[Figure]") -> "dict[str, Figure]":
    """The figures by file name: their titles in lowercase letters, digits and hyphens."""
    named: dict[str, Figure] = {}
    for figure in figures:
        short = re.sub(r"[^a-z0-9]+", "-", figure.title.lower()).strip("-")[:NAME].strip("-")
        name, number = short or "figure", 2
        while name in named:
            name, number = f"{short}-{number}", number + 1
        named[name] = figure
    return named


def _ranking(
    selection: tuple[str, ...],
    outputs: tuple[Path, ...],
    uri: str | None,
    measure: "Measure | None",
) -> "tuple[str, str, list[Standing], str]":
    """The name of a selection, the name of its data, its ranking, and its verdict.

    Notes go to standard error.
    """
    from harness.analysis import ranked

    notes: list[str] = []
    selected = select(outputs, selection or [newest_sweep(outputs, uri)], uri)
    chosen = ranked.rank(selected, notes, measure)
    standings = chosen.standings(notes)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    return selected.name, chosen.data, standings, selected.verdict


def _write(make: "Callable[[], Frame]", form: str | None, to: Path | None) -> None:
    """Write a data frame. Bad input ends the command."""
    made: list[Frame] = []

    def content() -> bytes:
        chosen = _format(form, to)
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always", UserWarning)
            made.append(make())
        for note in notes:
            click.echo(f"note: {note.message}", err=True)
        return frames.content(made[0], chosen)

    _write_content(content, to)
    if to is not None:
        click.echo(f"{to}: {len(made[0]):,} rows of {len(made[0].columns)} columns")


def _write_text(make: Callable[[], str], to: Path | None) -> None:
    _write_content(lambda: make().encode(), to)
    if to is not None:
        click.echo(str(to))


def _write_content(make: Callable[[], bytes], to: Path | None) -> None:
    """Write to a file, atomically, or to standard output. Bad input ends the command."""
    try:
        if to is not None:
            own_data.check_file(to)
        content = make()
    except (ValueError, StoreError) as error:
        refuse(error)
    if to is None:
        streams.write_data(content)
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(to, content)


def _format(form: str | None, to: Path | None) -> str:
    """The format to write. Raises `ValueError`."""
    ending = "" if to is None else to.suffix.removeprefix(".").lower()
    if form is not None and ending in frames.FORMATS and ending != form:
        raise ValueError(f"--to {to} --format {form}: the name ends in .{ending}; leave one out")
    if form is None:
        form = "csv" if to is None else ending
        if form not in frames.FORMATS:
            raise ValueError(f"--to {to}: expected a name that ends in .csv, .parquet or .json")
    if form == "parquet" and to is None:
        raise ValueError("--format parquet: expected --to FILE as well")
    return form


@export.command("json")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("outputs/json"))
@click.option("--dataset", "name", default="mnist", show_default=True)
@click.option("--dir", "place", default=None, help="The folder of dataset idx.")
@click.option("--file", default=None, help="The .npz file of dataset arrays.")
@OUTPUTS
def export_json(
    folder: Path, name: str, place: str | None, file: str | None, outputs: Path
) -> None:
    """Save the extracted training and test sets as JSON, as the tutorial does."""
    try:
        own_data.check_folder(folder)
        data = dataset.load(name, folder=place, file=file, cache=outputs / "cache", num_val=0)
    except ValueError as error:
        refuse(error)
    for path in write_json(data, folder):
        click.echo(f"{path}  {path.stat().st_size / 1e6:.0f} MB")


def write_json(data: Dataset, folder: Path) -> list[Path]:
    """Write `train.json` and `test.json`: {"images": N rows of D values, "labels": N numbers}."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, part in (("train", data.train), ("test", data.test)):
        path = folder / f"{name}.json"
        images, labels = part.arrays()
        content = {"images": images.tolist(), "labels": labels.tolist()}
        write_text(path, json.dumps(content, separators=(",", ":")))
        paths.append(path)
    return paths
