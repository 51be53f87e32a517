"""`python -m harness predict`: classify picture files."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from harness.commands.options import CONFIG_DIR, JSON, OUTPUTS, RUN, URI, refuse
from harness.data.dataset import default_names
from harness.recognizer.choice import choose
from harness.recognizer.decoding import Decoder
from harness.recognizer.recognizer import Answer, Recognizer
from harness.runfolder import streams
from harness.runfolder.status import ExitStatus

PREPROCESSED = "preprocessed as MNIST's digits were, --as-is only resizes"


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@OUTPUTS
@CONFIG_DIR
@RUN
@URI
@JSON
@click.option("--as-is", is_flag=True, help="Resize only, as import-images --as-is did.")
def predict(
    files: tuple[Path, ...],
    outputs: Path,
    run: str | None,
    uri: str | None,
    as_json: bool,
    as_is: bool,
) -> None:
    """Recognize the digits in picture files with the registered champion or the best run.

    With --run, a run trained on other classes answers with their names.
    """
    try:
        trained = choose(outputs, run, uri)
    except ValueError as error:
        refuse(error)
    is_doubtful = not as_is and len(trained.picture_shape) == 2 and not trained.is_of_mnist
    readings = read(trained, list(files), as_is=as_is)
    if as_json:
        sys.exit(print_json(list(readings)))
    notes = [*trained.remarks, *([PREPROCESSED] if is_doubtful else [])]
    sys.exit(print_table(readings, list(files), trained, notes))


@dataclass(frozen=True)
class Reading:
    """A file and its answer, or None and the problem if it could not be read."""

    file: str
    answer: Answer | None
    problem: str = ""


def read(trained: Recognizer, files: list[Path], *, as_is: bool = False) -> Iterator[Reading]:
    """Read the files one by one: memory does not grow with their number."""
    color = len(trained.picture_shape) == 3
    with Decoder() as decoder:
        for path in files:
            try:
                (answer,) = trained.read([decoder.read(path, color=color)], as_is=as_is)
            except (ValueError, OSError) as error:
                yield Reading(str(path), None, str(error))
            else:
                yield Reading(str(path), answer, answer.preprocessed.problem)


def print_json(readings: list[Reading]) -> ExitStatus:
    """Print a JSON list; returns BAD_INPUT if a file could not be read."""
    print(json.dumps([to_dict(reading) for reading in readings], indent=1))
    unread = any(reading.answer is None for reading in readings)
    return ExitStatus.BAD_INPUT if unread else ExitStatus.DONE


def print_table(
    readings: Iterator[Reading], files: list[Path], trained: Recognizer, notes: Sequence[str] = ()
) -> ExitStatus:
    """Print a line per file; returns BAD_INPUT if one could not be read.

    notes: remarks about all answers, printed after the source of the network.
    """
    status = ExitStatus.DONE
    width = max(len(str(path)) for path in files)
    is_named = trained.class_names != default_names(trained.classes)
    wide = max(5, *map(len, trained.class_names))
    heading, source = "class" if is_named else "digit", trained.source
    about = f"   {'; '.join(notes)}" if notes else ""
    print(f"{'file':{width}}  {heading:>{wide}}  probability  runner-up   ({source}){about}")
    for reading in readings:
        if streams.reader_is_gone():
            break
        answer = reading.answer
        if answer is None:
            print(f"{reading.file}: {reading.problem}", file=sys.stderr, flush=True)
            status = ExitStatus.BAD_INPUT
        elif answer.probabilities is None:
            print(
                f"{reading.file:{width}}  {'-':>{wide}}  {answer.preprocessed.problem}", flush=True
            )
        else:
            unsure = "   unsure" if answer.unsure else ""
            line = f"{answer.name:>{wide}}  {answer.probability:>11.1%}  {runner_up(answer)}"
            print(f"{reading.file:{width}}  {line}{unsure}", flush=True)
    return status


def runner_up(answer: Answer) -> str:
    """The second most probable class and its probability; nothing for a network of one class."""
    assert answer.probabilities is not None
    if len(answer.probabilities) < 2:
        return "-"
    second = int(answer.probabilities.argsort()[-2])
    return f"{answer.names[second]} ({float(answer.probabilities[second]):.1%})"


def to_dict(reading: Reading) -> dict[str, Any]:
    """The JSON of a reading: `file`, and either `error` or the answer.

    The answer has `digit` (the number of the class, null if the picture has no digit), `class` (its
    name), `probability`, `unsure`, `probabilities` and `problem`.
    """
    answer = reading.answer
    if answer is None:
        return {"file": reading.file, "error": reading.problem}
    p = answer.probabilities
    return {
        "file": reading.file,
        "digit": answer.digit,
        "class": answer.name,
        "probability": round(answer.probability, 6),
        "unsure": answer.unsure,
        "probabilities": [] if p is None else [round(float(each), 6) for each in p],
        "problem": answer.preprocessed.problem,
    }
