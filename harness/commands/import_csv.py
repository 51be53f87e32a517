"""`python -m harness import-csv`: convert a CSV file of labels and numbers to a data set."""

from pathlib import Path

import click

from harness.commands.options import TEST_SHARE, refuse
from harness.data import labeled_csv, own_data


@click.command("import-csv")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@TEST_SHARE
@click.option(
    "--label",
    metavar="COLUMN",
    help="The column of the names of the classes, any text: first, last, a number from 1, or a "
    "name of the header. They become classes in sorted order.",
)
@click.option("--target", metavar="COLUMN", help="The column of the targets of a regression.")
@click.option("--floats", is_flag=True, help="The other columns are numbers, not pixels.")
@click.option(
    "--range", "values", metavar="LOW:HIGH", help="The gray values that are black and white."
)
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
    label: str | None,
    target: str | None,
    floats: bool,
    values: str | None,
    label_column: str | None,
    header: bool | None,
    renumber: bool,
) -> None:
    """Convert a CSV file (label, then pixels; Kaggle's train.csv) to a data set in OUT.

    Gray images become four IDX files, for dataset=idx. Other numbers (--floats) and regression
    targets (--target) become arrays.npz, for dataset=arrays.
    """
    try:
        own_data.check_target(out, test)
        if floats and values is not None:
            raise ValueError("--floats, --range: give only one; --range is for gray values")
        examples = labeled_csv.read(
            file,
            label_column=label_column,
            header=header,
            renumber=renumber,
            label=label,
            target=target,
            floats=floats,
            value_range=None if values is None else labeled_csv.parse_range(values),
        )
        lines = own_data.write(examples, out, test_share=test)
    except ValueError as error:
        refuse(error)
    click.echo("\n".join([*examples.notes, *lines]))
