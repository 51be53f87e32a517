"""`python -m harness predict`: the digits in picture files. Also which network answers."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.nn import metrics
from harness.recognizer import loading as calibrate
from harness.recognizer import picture
from harness.recognizer import registry as model
from harness.recognizer.recognizer import Answer, Recognizer
from harness.runfolder import folder as runs
from harness.runfolder import journal
from harness.tracking.reading import Reader
from harness.tracking.store import StoreError
from harness.tracking.target import Target

DONE, BAD_INPUT = 0, 2


def choose(outputs: Path, run: str | None = None, uri: str | None = None) -> Recognizer:
    """The network of a run; without one the registered champion, else the best local run.

    uri: another tracking store than the one under `outputs`; a run is looked for there too. Raises
    `ValueError` with what to do when there is none.
    """
    if run is not None and uri is None:
        return calibrate.load_run(runs.find(outputs, run))
    target = Target(uri) if uri else Target.local(outputs)
    try:
        if run is not None:
            return calibrate.load_stored(Reader(target), run)
        champion = model.registered(target)
    except StoreError as error:
        raise ValueError(str(error)) from error
    if champion is not None:
        return champion
    best = best_run(outputs)
    if best is None:
        raise ValueError(
            f"no trained network in {outputs}: run `python -m harness.run experiment=quick` first, "
            "or say where with --outputs"
        )
    return calibrate.load_run(best)


def best_run(outputs: Path) -> Path | None:
    """The finished run with the lowest validation error; runs on MNIST come first."""
    found = []
    for folder in journal.folders(runs.folder_of(outputs)):
        told = journal.history(folder)
        if told.status == "FINISHED" and (folder / calibrate.WEIGHTS).is_file():
            error = told.final.get(metrics.BEST_VAL_ERROR, 1.0)
            found.append((told.create["dataset"]["name"] != "mnist", error, folder))
    return min(found)[2] if found else None


def source(trained: Recognizer) -> str:
    """Who answers, for people."""
    about = trained.description
    version = f"{about['version']}, " if "version" in about else ""
    return f"{version}run {about['run']}"


@dataclass(frozen=True)
class Row:
    """A file and its answer, or the problem with it."""

    file: str
    answer: Answer | None
    problem: str = ""


def rows(trained: Recognizer, files: list[Path]) -> Iterator[Row]:
    """Read one file after the other, so that memory does not grow with their number."""
    for path in files:
        try:
            (answer,) = trained.read([picture.read(path)])
        except ValueError as error:
            yield Row(str(path), None, str(error))
        else:
            yield Row(str(path), answer, answer.seen.problem)


def predict(trained: Recognizer, files: list[Path], *, as_json: bool) -> int:
    """Print what the files show. Exit status 2 when a file could not be read."""
    status = DONE
    if as_json:
        found = list(rows(trained, files))
        status = BAD_INPUT if any(row.answer is None for row in found) else DONE
        print(json.dumps([to_dict(row) for row in found], indent=1))
        return status
    width = max(len(str(path)) for path in files)
    print(f"{'file':{width}}  digit  probability  runner-up   ({source(trained)})")
    for row in rows(trained, files):
        answer = row.answer
        if answer is None:
            print(f"{row.file}: {row.problem}", file=sys.stderr, flush=True)
            status = BAD_INPUT
        elif answer.probabilities is None:
            print(f"{row.file:{width}}      -  {answer.seen.problem}", flush=True)
        else:
            second, share = runner_up(answer)
            doubt = "   unsure" if answer.unsure else ""
            line = f"{answer.digit:>5}  {answer.probability:>11.1%}  {second} ({share:.1%})"
            print(f"{row.file:{width}}  {line}{doubt}", flush=True)
    return status


def runner_up(answer: Answer) -> tuple[int, float]:
    """The second most probable class and its probability."""
    assert answer.probabilities is not None
    second = int(answer.probabilities.argsort()[-2])
    return second, float(answer.probabilities[second])


def to_dict(row: Row) -> dict[str, Any]:
    """A row as JSON has it."""
    if row.answer is None:
        return {"file": row.file, "error": row.problem}
    return {"file": row.file, **answer_to_dict(row.answer)}


def answer_to_dict(answer: Answer) -> dict[str, Any]:
    """digit, probability, unsure, probabilities, problem; digit is null where none was found."""
    p = answer.probabilities
    return {
        "digit": answer.digit,
        "probability": round(answer.probability, 6),
        "unsure": answer.unsure,
        "probabilities": [] if p is None else [round(float(each), 6) for each in p],
        "problem": answer.seen.problem,
    }
