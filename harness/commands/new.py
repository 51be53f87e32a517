"""`python -m harness new FOLDER`: a small complete project of one's own."""

import shutil
from pathlib import Path

import click

PROJECT = Path(__file__).parent / "project"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def new(folder: Path) -> None:
    """Write a project with own parts, an own trainer, an experiment and a sweep.

    FOLDER must not exist, or be empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.UsageError(f"{folder}: expected a new or an empty folder")
    for path in PROJECT.rglob("*"):
        inner = path.relative_to(PROJECT)
        if path.is_file() and "__pycache__" not in inner.parts:
            target = folder / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)  # without its mode: an installation may be read-only
    click.echo(f"{folder}: {', '.join(path.name for path in sorted(folder.iterdir()))}")
    click.echo(f"next: cd {folder} && python -m harness.run -cd conf experiment=mine")
