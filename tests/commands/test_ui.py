"""The MLflow UI in a real browser, on the deep link that a sweep prints."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.conftest import command_in, free_port

CHROMIUM = shutil.which("chromium")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

# What Plotly was given, in the order of the page: the metrics of each chart, and of each of its
# lines the run (none for a mean over runs) and the number of points; bands: from the lowest to the
# highest seed.
PLOTS = """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => {
    const lines = plot.data.filter(line => line.mode === 'lines+markers');
    return {bottom: plot.getBoundingClientRect().bottom,
            metrics: [...new Set(lines.map(line => line.metricKey))],
            runs: lines.map(line => line.name.split(' ')[0]),
            points: lines.map(line => line.x.length),
            bands: plot.data.filter(line => line.fill).length};
})"""
FIRST = ("val/error", "train/loss")


@contextmanager
def ui_on(port: int, cwd: Path) -> Iterator["subprocess.Popen[str]"]:
    """The command `ui` on a port, until the block ends."""
    ui = subprocess.Popen(
        [sys.executable, "-m", "harness", "ui", "--port", str(port)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield ui
    finally:
        ui.send_signal(signal.SIGINT)
        ui.communicate(timeout=30)


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_the_link_of_a_sweep_opens_on_its_curves(tmp_path: Path, idx_folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    own = ("dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40", "epochs=4", "width=8")
    command = command_in(tmp_path)
    assert command("harness.run", *own, "batch=25").returncode == 0  # not of the sweep
    done = command("harness.run", "-m", *own, "batch=10,20,40")
    assert done.returncode == 0
    link = next(line.split()[-1] for line in done.stdout.splitlines() if "charts:" in line)
    port = free_port()
    link = link.replace(":5000", f":{port}")
    with ui_on(port, tmp_path) as ui:
        assert ui.stdout is not None
        assert ui.stdout.readline() == f"the MLflow UI is at http://127.0.0.1:{port}\n"
        assert ui.stdout.readline() == f"the newest sweep's charts: {link}\n"
        line = ui.stdout.readline()
        assert line == "this command serves it, and runs until Ctrl-C stops it\n"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            page = browser.new_page(viewport={"width": 1500, "height": 1000})
            page.goto(link)
            page.wait_for_selector(".js-plotly-plot .scatterlayer .trace", timeout=60_000)
            page.wait_for_selector("text=time", timeout=60_000)
            page.wait_for_timeout(2_000)
            plots = page.evaluate(PLOTS)
            text = page.inner_text("body")
            page.set_viewport_size({"width": 1500, "height": 3500})  # charts are lazy
            page.wait_for_function(
                "() => document.querySelectorAll('.js-plotly-plot').length >= 5", timeout=60_000
            )
            page.wait_for_timeout(2_000)
            everything = page.evaluate(PLOTS)
            browser.close()
        family = [psutil.Process(ui.pid), *psutil.Process(ui.pid).children(recursive=True)]
    on_first_screen = [plot for plot in plots if plot["bottom"] <= 1000]
    for plot, metric in zip(on_first_screen, FIRST, strict=True):
        assert plot["metrics"] == [metric]
        assert sorted(plot["runs"]) == ["batch=10", "batch=20", "batch=40"]
        assert plot["points"] == [4, 4, 4], "a point for every epoch"
    drawn = sorted(metric for plot in everything for metric in plot["metrics"])
    assert drawn == ["train/error", "train/loss", "train/lr", "val/error", "val/loss"]
    assert len(everything) == len(drawn), "the sections best, test and time are collapsed"
    for section in ("best", "test", "time"):
        assert re.search(rf"^{section}$", text, re.MULTILINE)
    assert "batch=25" not in text
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_the_stored_view_shows_all_twelve_runs_and_what_matters(
    tmp_path: Path, idx_folder: Path
) -> None:
    """MLflow's own view hides the eleventh run and every metric."""
    from playwright.sync_api import sync_playwright

    own = ("dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40", "epochs=2", "width=8")
    done = command_in(tmp_path)("harness.run", "-m", *own, "batch=10,20,40,80", "seed=1,2,3",
                                timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr
    port = free_port()
    with ui_on(port, tmp_path) as ui:
        assert ui.stdout is not None
        ui.stdout.readline()
        view = ui.stdout.readline().split()[-1]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            page = browser.new_page(viewport={"width": 2200, "height": 1400})
            page.goto(view.replace("&compareRunsMode=CHART", ""))
            page.wait_for_selector("text=best/val_error", timeout=60_000)
            page.wait_for_selector("text=batch=80,seed=3", timeout=60_000)
            text = page.inner_text("body")
            page.goto("about:blank")
            page.goto(view)
            page.wait_for_selector("text=Group: 80", timeout=60_000)
            charts = page.inner_text("body")
            page.set_viewport_size({"width": 1500, "height": 1000})
            page.wait_for_selector(".js-plotly-plot .scatterlayer .trace", timeout=60_000)
            page.wait_for_timeout(2_000)
            plots = page.evaluate(PLOTS)
            browser.close()
        on_first_screen = [plot for plot in plots if plot["bottom"] <= 1000]
        for plot, metric in zip(on_first_screen, FIRST, strict=True):
            assert plot["metrics"] == [metric]
            assert plot["points"] == [2, 2, 2, 2], "a mean over seeds for each batch size"
            assert plot["bands"] == 4
        for batch in (10, 20, 40, 80):
            for seed in (1, 2, 3):
                assert f"batch={batch},seed={seed}" in text
            assert f"Group: {batch}" in charts
        for column in ("best/val_error", "best/epoch", "test/error", "val/error"):
            assert column in text
        assert "errors of a classification are fractions" in text, "the experiment's note"
        assert "12 matching runs" in text
