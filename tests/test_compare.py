"""Comparing: the report of recorded runs, what is missing or does not fit, and the real command."""

import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import compare
from harness.analysis import page as report
from harness.nn import metrics
from harness.runfolder import checkpoint, journal
from harness.runfolder import folder as runs
from harness.runfolder.journal import Journal
from harness.runfolder.plan import Plan, SweepJob
from harness.tracking import selection
from harness.tracking.recorded import Journals, Recorded, from_journal
from harness.tracking.selection import Selection
from tests.conftest import Command, command_in

VALIDATION = {metrics.VAL_ERROR, metrics.BEST_EPOCH, metrics.BEST_VAL_ERROR}
DIGEST = "ab" * 32


def make_run(
    outputs: Path, batch: int, seed: int, *, status: str | None = "FINISHED",
    validation: bool = True, data: str = DIGEST, tests: int = 200,
) -> Recorded:  # fmt: skip
    """A run folder as a job leaves it, whose errors follow from batch and seed."""
    generator = np.random.default_rng(1000 * batch + seed)
    run = f"{batch:03d}{seed:02d}-x"
    folder = outputs / "runs" / run
    folder.mkdir(parents=True)
    labels = np.arange(tests, dtype=np.uint8) % 4
    probabilities = generator.dirichlet(np.ones(4), tests).astype(np.float32) * 0.2
    right = generator.uniform(size=tests) > batch / 100
    probabilities[np.arange(tests), np.where(right, labels, (labels + 1) % 4)] += 0.8
    error = float((probabilities.argmax(axis=1) != labels).mean())
    with Journal(folder / journal.FILE_NAME) as writer:
        about = {"name": "idx", "sha256": data, "test": tests}
        writer.append(
            "create", run=run, name=f"batch={batch},seed={seed}", experiment="idx", dataset=about,
            params={"batch": batch, "seed": seed, "epochs": 3, "dataset.num_val": 40},
            tags={"run.id": run, "data.sha256": data, "run_key": run},
        )  # fmt: skip
        writer.append("start", host="h", pid=1, threads=1, backend="numpy")
        curve = np.array([0.5, batch / 100 + 0.001 * seed, batch / 90])
        for epoch, value in enumerate(curve, 1):
            values = {metrics.TRAIN_LOSS: 1 / epoch, metrics.VAL_ERROR: value, metrics.EPOCH_S: 0.1}
            kept = values.keys() - (set() if validation else VALIDATION)
            writer.append("epoch", epoch=epoch, metrics={key: float(values[key]) for key in kept})
        if status == "FINISHED":
            writer.append("final", epoch=3, metrics={metrics.TEST_ERROR: error})
        if status is not None:
            writer.append("end", status=status, error=None)
    (folder / "predictions").mkdir()
    np.savez(folder / "predictions/test.npz", labels=labels, probabilities=probabilities)
    weights = {"layer1.weights": generator.normal(size=(30, 8)).astype(np.float32)}
    checkpoint.save(folder / "weights/best.safetensors", weights, {"image_shape": [6, 5]})
    return from_journal(folder)


def build(outputs: Path, *recorded: Recorded) -> report.Report:
    made, _ = compare.build(Selection("sweep abc", list(recorded), Journals()), outputs)
    return made


@pytest.fixture
def six(tmp_path: Path) -> list[Recorded]:
    return [make_run(tmp_path, batch, seed) for batch in (5, 6, 30) for seed in (1, 2)]


class Page(HTMLParser):
    """What a page would fetch, and its text outside style and pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.text = ""
        self._skipping = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skipping += tag in ("style", "svg")
        for key, value in attrs:
            value = value or ""
            inline = value.startswith(("data:", "#"))
            if key.endswith(("href", "src", "srcset")) and not inline:
                self.fetched.append(value)
        assert tag not in ("script", "iframe", "object")

    def handle_endtag(self, tag: str) -> None:
        self._skipping -= tag in ("style", "svg")

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self.text += " " + data


def test_the_report_says_what_was_recorded(tmp_path: Path, six: list[Recorded]) -> None:
    made = build(tmp_path, *six)
    assert [row["batch"] for row in made.setting_rows()] == ["5", "6", "30"]
    first, *_, last = made.setting_rows()
    assert first["val_error_best_epoch_mean"] == pytest.approx(0.0515)
    assert first["val_error_last_epoch_mean"] == pytest.approx(5 / 90)
    assert first["best_epoch_mean"] == 2
    assert first["test_error_mean"] == pytest.approx(
        np.mean([run.final[metrics.TEST_ERROR] for run in six[:2]])
    )
    assert last["against_best"] != "best"
    assert len(made.pairs) == 3
    assert made.pairs[1].p < 0.001, "5 % against 30 % of 200 images"
    titles = [picture.title for picture in made.pictures]
    for title in ("Validation error", "Training loss", "Error by batch", "Time against error",
                  "Confusion matrix of batch=5", "First-layer weights"):  # fmt: skip
        assert title in titles
    content = json.loads(made.to_json())
    assert len(content["runs"]) == 6
    assert content["answer"].startswith("batch=5 has the lowest validation error: 5.15 ± 0.07 %")


def test_the_page_stands_alone(tmp_path: Path, six: list[Recorded]) -> None:
    files = compare.write(build(tmp_path, *six), tmp_path / "reports/abc")
    assert [path.name for path in files] == ["index.html", "settings.csv", "report.json"]
    text = files[0].read_text()
    found = Page(text)
    assert found.fetched == []
    assert not re.findall(r"url\((?!#|data:)", text)
    assert "@import" not in text
    assert "not distinguishable" in found.text.lower() or "worse" in found.text.lower()
    assert "batch=5 has the lowest validation error" in found.text
    assert "nan" not in found.text.split()
    header, *rows = files[1].read_text().splitlines()
    assert header.startswith("rank,batch,n,val_error_best_epoch_mean")
    assert len(rows) == 3


def test_html_in_names_is_only_text(tmp_path: Path, six: list[Recorded]) -> None:
    six[0].params["activation"] = "<script>alert(1)</script>"
    text = report.page(build(tmp_path, *six))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_two_swept_keys_make_a_map(tmp_path: Path) -> None:
    recorded = []
    for batch in (5, 10):
        for lr in ("0.1", "0.2"):
            run = make_run(tmp_path, batch, int(10 * float(lr)))
            run.params.update(seed="1", lr=lr)
            recorded.append(run)
    made = build(tmp_path, *recorded)
    assert "Validation error by batch and lr" in [picture.title for picture in made.pictures]
    assert all("McNemar" in standing.why for standing in made.standings[1:])


def test_unfinished_runs_are_left_out_with_a_line(tmp_path: Path) -> None:
    good = [make_run(tmp_path, 5, 1), make_run(tmp_path, 6, 1)]
    bad = [
        make_run(tmp_path, 7, 1, status="FAILED"),
        make_run(tmp_path, 8, 1, status="KILLED"),
        make_run(tmp_path, 9, 1, status=None),
    ]
    made = build(tmp_path, *good, *bad)
    assert len(made.settings) == 2
    (note,) = [note for note in made.notes if "left out" in note]
    assert note.startswith("left out because not finished: 1 FAILED, 1 KILLED, 1 RUNNING (batch=7")


def test_nothing_finished_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing to compare: left out because .* 1 FAILED"):
        build(tmp_path, make_run(tmp_path, 7, 1, status="FAILED"))


def test_an_empty_sweep_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sweep abc: there are no runs to compare"):
        build(tmp_path)


def test_runs_without_metrics_are_left_out_with_a_line(tmp_path: Path) -> None:
    foreign = replace(make_run(tmp_path, 6, 1), final={"accuracy": 0.9}, curves={})
    made = build(tmp_path, make_run(tmp_path, 5, 1), foreign)
    assert len(made.settings) == 1
    assert any("1 finished run(s) have neither val/error nor test/error" in n for n in made.notes)


def test_without_validation_the_rest_still_comes(tmp_path: Path) -> None:
    recorded = [make_run(tmp_path, batch, 1, validation=False) for batch in (5, 30)]
    made = build(tmp_path, *recorded)
    assert any("no run has validation images" in note for note in made.notes)
    titles = [picture.title for picture in made.pictures]
    assert "Time against error" in titles
    assert "Training loss" in titles
    assert "lowest on test" in report.page(made)


def test_other_data_is_refused_and_the_rest_still_comes(tmp_path: Path) -> None:
    made = build(tmp_path, make_run(tmp_path, 5, 1), make_run(tmp_path, 6, 1, data="cd" * 32))
    assert made.standings[1].verdict == "not compared"
    assert made.standings[1].why == "different data sets (abababab and cdcdcdcd)"
    assert made.pairs == []
    assert any("not tested on the same images" in note for note in made.notes)
    assert "different data sets" in report.page(made)


def test_another_test_set_is_refused_and_the_rest_still_comes(tmp_path: Path) -> None:
    made = build(tmp_path, make_run(tmp_path, 5, 1), make_run(tmp_path, 6, 1, tests=180))
    assert made.pairs == []
    assert any("different test sets (200 and 180 labels)" in note for note in made.notes)
    assert not any(picture.title.startswith("Difference") for picture in made.pictures)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_missing_or_damaged_artifacts_get_a_line_each(
    tmp_path: Path, six: list[Recorded], damage: str
) -> None:
    best = build(tmp_path, *six).settings[0].chosen.run
    for path in ("predictions/test.npz", "weights/best.safetensors"):
        file = tmp_path / "runs" / best / path
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:100])
    made = build(tmp_path, *six)
    assert any(best in note and "predictions/test.npz" in note for note in made.notes)
    assert any("no picture of the first layer" in note for note in made.notes)
    assert len(made.standings) == 3
    assert len(made.pairs) == 1
    assert "Error by batch" in [picture.title for picture in made.pictures]


def test_an_unknown_data_set_costs_only_its_pictures(tmp_path: Path, six: list[Recorded]) -> None:
    made = build(tmp_path, *six)
    assert any("no pictures of digits: the data set" in note for note in made.notes)


def test_a_sweep_makes_its_report_once(tmp_path: Path, six: list[Recorded]) -> None:
    jobs = tuple(SweepJob(run.run, run.name, {}, run.run) for run in six)
    line = compare.after_sweep(Plan("abc", (), jobs), tmp_path)
    page = tmp_path / "reports/abc/index.html"
    assert line.endswith(str(page))
    attached = [run.run for run in six if "report/abc/index.html"
                in journal.history(tmp_path / "runs" / run.run).artifacts]  # fmt: skip
    best = build(tmp_path, *six).settings[0].chosen.run
    assert attached == [best]
    assert (tmp_path / "runs" / best / "report/abc/index.html").read_text() == page.read_text()
    before = page.stat().st_mtime_ns
    compare.after_sweep(Plan("abc", (), jobs), tmp_path)
    assert page.stat().st_mtime_ns == before


def test_an_impossible_report_is_said_in_one_line(tmp_path: Path, six: list[Recorded]) -> None:
    jobs = (SweepJob(six[0].run, "", {}, ""), SweepJob("gone", "", {}, ""))
    line = compare.after_sweep(Plan("abc", (), jobs), tmp_path)
    assert line.startswith("no report: FileNotFoundError")
    assert "\n" not in line


OWN = ("dataset.num_val=40", "epochs=3", "width=8", "lr=0.5")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, idx_folder: Path) -> Path:
    """A folder with a real sweep of 2 batch sizes x 3 seeds, and a single run beside it."""
    place = tmp_path_factory.mktemp("swept")
    command = command_in(place)
    own = ("dataset=idx", f"dataset.dir={idx_folder}", *OWN)
    done = command("harness.run", "-m", *own, "batch=10,40", "seed=1,2,3")
    assert done.returncode == 0, done.stderr
    assert re.search(r"report: +outputs/reports/\w{10}/index.html", done.stdout)
    assert command("harness.run", *own, "batch=20").returncode == 0
    return place


def content(place: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(
        (place / "outputs/reports" / name / "report.json").read_text()
    )
    return {key: found[key] for key in ("answer", "settings", "runs", "pairs", "notes")}


@pytest.mark.service
def test_mlflow_and_the_journals_tell_the_same(swept: Path) -> None:
    (made,) = (swept / "outputs/reports").glob("[0-9a-f]*")
    journals = content(swept, made.name)
    before = (made / "index.html").stat().st_mtime_ns
    done = command_in(swept)("harness", "compare")
    assert (done.returncode, done.stderr) == (0, "")
    assert (made / "index.html").stat().st_mtime_ns > before
    assert content(swept, made.name) == journals
    assert len(journals["runs"]) == 6  # type: ignore[arg-type]
    assert f"report/{made.name}" in done.stdout
    attached = list(
        (swept / "outputs/artifacts").glob(f"*/*/artifacts/report/{made.name}/index.html")
    )
    assert len(attached) == 1
    assert attached[0].read_text() == (made / "index.html").read_text()


@pytest.mark.service
def test_what_can_be_named(swept: Path) -> None:
    command = command_in(swept)
    done = command("harness", "compare", "idx", "--no-attach")
    assert done.returncode == 0
    assert len(content(swept, "experiment-idx")["runs"]) == 7  # type: ignore[arg-type]
    done = command("harness", "compare", "params.batch = '20'", "--no-attach")
    assert done.returncode == 0
    ids = [path.name for path in (swept / "outputs/runs").iterdir() if path.is_dir()][:3]
    done = command("harness", "compare", *(i[:6] for i in ids), "--no-attach")
    assert done.returncode == 0
    assert len(list((swept / "outputs/reports").glob("runs-*"))) == 1


@pytest.mark.service
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nonsense"], "'nonsense' is neither a sweep, an experiment nor a run in "),
        (["params.batch ="], "'params.batch =' is no filter that MLflow understands: "),
        (["params.batch = '7'"], "filter params.batch = '7': there are no runs to compare"),
    ],
)
def test_bad_words_exit_2(swept: Path, words: list[str], line: str) -> None:
    done = command_in(swept)("harness", "compare", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: " + line)
    assert done.stderr.count("\n") == 1


@pytest.mark.service
def test_no_results_yet_exit_2(command: Command) -> None:
    done = command("harness", "compare")
    assert done.returncode == 2
    assert "no results yet; start a run first" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.service
def test_a_sweep_without_mlflow_is_compared_from_its_journals(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", *OWN, "tracking=none")
    assert command("harness.run", "-m", *own, "batch=10,40").returncode == 0
    begin = time.monotonic()
    done = command("harness", "compare")
    assert (done.returncode, done.stderr) == (0, ""), time.monotonic() - begin
    assert not (tmp_path / "outputs/mlflow.db").exists()
    chosen = selection.select(tmp_path / "outputs", [], None)
    assert isinstance(chosen.source, Journals)
    assert runs.folder_of(tmp_path / "outputs").is_dir()
