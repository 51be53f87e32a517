"""`python -m harness new FOLDER`: create a small, complete project."""

import shutil
from pathlib import Path

import click

PROJECT = Path(__file__).parent / "project"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def new(folder: Path) -> None:
    """Create a project with custom parts, a custom trainer, an experiment and a sweep.

    FOLDER must be empty or not exist.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.UsageError(f"{folder}: expected a new or an empty folder")
    for path in PROJECT.rglob("*"):
        inner = path.relative_to(PROJECT)
        if path.is_file() and "__pycache__" not in inner.parts:
            target = folder / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)  # not the mode: an installation may be read-only
    click.echo(f"{folder}: {', '.join(path.name for path in sorted(folder.iterdir()))}")
    click.echo(f"next: cd {folder} && python -m harness.run -cd conf experiment=mine")
