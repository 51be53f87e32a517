"""Every command but training: `python -m harness COMMAND`, also installed as `harness`."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import click

OUTPUTS = click.option(
    "--outputs",
    type=click.Path(path_type=Path),
    default=Path("outputs"),
    show_default=True,
    help="The folder for everything generated.",
)

# MLflow would try a dead server for minutes, and print its own bars between our lines. A page of a
# thousand runs takes a server longer than a delivery's small calls.
MLFLOW = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="scratch-harness")
def main() -> None:
    """Look at runs and sweeps. Training is `python -m harness.run`."""
    for name, value in MLFLOW.items():
        os.environ.setdefault(name, value)


@main.command()
@OUTPUTS
@click.option("--limit", default=30, show_default=True, help="How many of the newest runs.")
def status(outputs: Path, limit: int) -> None:
    """List runs and sweeps."""
    from harness.commands import status as overview

    overview.show(*overview.status_tables(outputs, limit))


@main.command()
@click.argument("what", nargs=-1)
@OUTPUTS
@click.option("--uri", default=None, help="Another tracking store than the one under outputs.")
@click.option("--attach/--no-attach", default=True, help="Store the report with the best run.")
def compare(what: tuple[str, ...], outputs: Path, uri: str | None, attach: bool) -> None:
    """Compare runs: table, tests, and a report as one HTML page.

    WHAT is a sweep, an MLflow experiment, a filter such as "params.batch = '16'", or several run
    ids; the newest sweep when it is left out.
    """
    from harness.commands import compare as comparison

    sys.exit(comparison.command(outputs, list(what), uri, attach=attach))


@main.command()
@OUTPUTS
@click.option("--port", default=5000, show_default=True, help="On 127.0.0.1.")
@click.option("--uri", default=None, help="Another tracking store than the one under outputs.")
def ui(outputs: Path, port: int, uri: str | None) -> None:
    """Start the MLflow UI on loopback and link to the newest sweep's charts."""
    from harness.commands import status as overview
    from harness.tracking.target import Target
    from harness.tracking.ui import serve

    target = Target(uri) if uri else Target.local(outputs)
    if target.database is not None and not target.database.exists():
        raise click.ClickException(f"{target.database}: no results yet; start a run first")
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    try:
        with serve(target, port) as address:
            click.echo(f"the MLflow UI is at {address}   (Ctrl-C ends it)")
            link = overview.newest_view(outputs, target, address)
            if link:
                click.echo(f"the newest sweep's charts: {link}")
            while True:
                time.sleep(3600)
    except (ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("ended")


@main.command()
@OUTPUTS
@click.option("--relocate", is_flag=True, help="Mend the store after outputs was moved or copied.")
def sync(outputs: Path, relocate: bool) -> None:
    """Deliver everything outstanding and prove that the store has it. Repeating is harmless."""
    from harness.commands import sync as outstanding

    sys.exit(outstanding.sync(outputs, relocate=relocate))


@main.command()
@OUTPUTS
@click.option("--uri", default=None, help="Another tracking store than the one under outputs.")
def results(outputs: Path, uri: str | None) -> None:
    """What the recipes reach: a Markdown table from the tracking store."""
    from harness.commands import results as recipes
    from harness.tracking.store import StoreError

    try:
        rows = recipes.table(outputs, uri)
    except (ValueError, StoreError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(recipes.markdown(rows))


@main.command()
@OUTPUTS
@click.option("--dry-run", is_flag=True, help="Only say what would be freed.")
@click.option("--all", "everything", is_flag=True, help="Also what checkpoint.milestones keeps.")
def clean(outputs: Path, dry_run: bool, everything: bool) -> None:
    """Remove the checkpoints of finished runs and what killed writers left half-written."""
    from harness.commands import clean as cleaning

    freed = cleaning.clean(outputs, dry_run=dry_run, everything=everything)
    click.echo(f"{'would free' if dry_run else 'freed'} {freed / 1e6:.1f} MB of checkpoints")


@main.command()
@click.argument("run_id")
@OUTPUTS
@click.option("--uri", default=None, help="Another tracking store than the one under outputs.")
def reproduce(run_id: str, outputs: Path, uri: str | None) -> None:
    """Train a run again from what MLflow holds, and compare every metric to the last bit."""
    from harness.commands import reproduce as reproduction

    sys.exit(reproduction.command(outputs, run_id, uri))


@main.group()
def export() -> None:
    """Write data or results in other formats."""


@export.command("json")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("outputs/json"))
@click.option("--dataset", "name", default="mnist", show_default=True)
@click.option("--dir", "source", default=None, help="The folder of dataset idx.")
@OUTPUTS
def export_json(folder: Path, name: str, source: str | None, outputs: Path) -> None:
    """Save the extracted training and test sets as JSON, the tutorial's way."""
    from harness.commands import export as exporter
    from harness.data.dataset import load

    try:
        dataset = load(name, folder=source, cache=outputs / "cache", num_val=0)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    for path in exporter.export_json(dataset, folder):
        click.echo(f"{path}  {path.stat().st_size / 1e6:.0f} MB")


RUN = click.option("--run", default=None, help="A run id or a prefix of one; `last` is the newest.")
URI = click.option("--uri", default=None, help="Another tracking store than the one under outputs.")


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@OUTPUTS
@RUN
@URI
@click.option("--json", "as_json", is_flag=True, help="As JSON instead of a table.")
def predict(
    files: tuple[Path, ...], outputs: Path, run: str | None, uri: str | None, as_json: bool
) -> None:
    """Read the digits in PNG or JPEG files, with the registered champion or the best run."""
    from harness.commands import predict as predictor

    try:
        trained = predictor.choose(outputs, run, uri)
    except ValueError as error:
        _refuse(error)
    sys.exit(predictor.predict(trained, list(files), as_json=as_json))


@main.command()
@click.argument("sweep_or_run", default=None, required=False)
@OUTPUTS
@click.option("--name", default="digits", show_default=True, help="The registered model.")
@click.option("--alias", default="champion", show_default=True)
def register(sweep_or_run: str | None, outputs: Path, name: str, alias: str) -> None:
    """Register the best run of a sweep (default: the newest) on validation, or a run."""
    from harness.commands import register as registry
    from harness.tracking.store import StoreError

    try:
        done = registry.register(outputs, sweep_or_run, name, alias)
    except (ValueError, StoreError) as error:
        _refuse(error)
    found = "" if done.val_error is None else f" (validation error {done.val_error:.2%})"
    click.echo(f"run {done.run}{found} is {done.version.name} version {done.version.number}")
    click.echo(
        f"serve it:  MLFLOW_TRACKING_URI={done.store} mlflow models serve "
        f"-m '{done.version.uri}' --env-manager local -p 5001"
    )


@main.command()
@click.argument("run")
@click.argument("overrides", nargs=-1)
@OUTPUTS
@click.option("--json", "as_json", is_flag=True, help="As JSON instead of text.")
def evaluate(run: str, overrides: tuple[str, ...], outputs: Path, as_json: bool) -> None:
    """Score a saved run on the test images of any data set: dataset=NAME dataset.dir=FOLDER."""
    import json

    from harness.commands import evaluate as evaluation

    try:
        found = evaluation.run_on(outputs, run, list(overrides))
    except ValueError as error:
        _refuse(error)
    click.echo(json.dumps(found.to_dict()) if as_json else evaluation.text(found))


TEST = click.option("--test", default=0.2, show_default=True, help="Share of the test images.")


@main.command("import-images")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@TEST
@click.option("--as-is", is_flag=True, help="No preprocessing: all of one size, bright on dark.")
def import_images(folder: Path, out: Path, test: float, as_is: bool) -> None:
    """Make four IDX files of FOLDER/<class>/*.png (or JPEG), for dataset=idx."""
    from harness.commands import import_data as own_data

    try:
        found = own_data.from_folder(folder, as_is=as_is)
        said = own_data.write(found, out, test_share=test)
    except ValueError as error:
        _refuse(error)
    for line in found.skipped:
        click.echo(f"skipped: {line}", err=True)
    click.echo("\n".join(said))


@main.command("import-csv")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@TEST
def import_csv(file: Path, out: Path, test: float) -> None:
    """Make four IDX files of a CSV: the label, then the pixels (Kaggle's train.csv)."""
    from harness.commands import import_data as own_data

    try:
        said = own_data.write(own_data.from_csv(file), out, test_share=test)
    except ValueError as error:
        _refuse(error)
    click.echo("\n".join(said))


@main.command()
@OUTPUTS
@RUN
@URI
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
def serve(outputs: Path, run: str | None, uri: str | None, host: str, port: int) -> None:
    """Open a page to draw digits on, and its JSON API."""
    from harness.commands import predict as predictor
    from harness.commands import serve as page

    try:
        trained = predictor.choose(outputs, run, uri)
        click.echo(f"draw at http://{host}:{port}   ({predictor.source(trained)}; Ctrl-C ends it)")
        page.serve(outputs, trained, host, port, uri)
    except (ValueError, OSError) as error:
        _refuse(error)
    except KeyboardInterrupt:
        pass  # Ctrl-C before the server listens; afterwards it returns
    click.echo("ended")


def _refuse(error: Exception) -> NoReturn:
    click.echo(f"error: {error}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
