"""`python -m harness export`: write data in other formats.

`export json` writes the extracted sets as JSON, as the tutorial does to skip extraction in later
runs. It is for comparison: the memory-mapped cache is smaller and opens a thousand times faster
(`python tests/benchmarks/bench_cache.py` prints both).
"""

import json
from pathlib import Path

import click

from harness.commands.options import OUTPUTS, refuse
from harness.data import dataset, own_data
from harness.data.atomic import write_text
from harness.data.dataset import Dataset


@click.group()
def export() -> None:
    """Write data in other formats."""


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
