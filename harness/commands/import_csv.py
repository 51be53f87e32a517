"""`python -m harness import-csv`: convert a CSV file of labels and pixels to four IDX files."""

from pathlib import Path

import click

from harness.commands.options import TEST_SHARE, refuse
from harness.data import labeled_csv, own_data


@click.command("import-csv")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@TEST_SHARE
@click.option(
    "--label-column",
    metavar="COLUMN",
    help="first, last, a number from 1, or a name of the header. Default: the column that the "
    "header calls label, class or target, else the first.",
)
@click.option(
    "--header/--no-header",
    default=None,
    help="Whether the first line is a header. Default: it is if none of its cells is a number.",
)
@click.option("--renumber", is_flag=True, help="Number the labels from 0, without gaps.")
def import_csv(
    file: Path,
    out: Path,
    test: float,
    label_column: str | None,
    header: bool | None,
    renumber: bool,
) -> None:
    """Convert a CSV file (label, then pixels; Kaggle's train.csv) to four IDX files in OUT."""
    try:
        own_data.check_target(out, test)
        examples = labeled_csv.read(
            file, label_column=label_column, header=header, renumber=renumber
        )
        lines = own_data.write(examples, out, test_share=test)
    except ValueError as error:
        refuse(error)
    click.echo("\n".join([*examples.notes, *lines]))
