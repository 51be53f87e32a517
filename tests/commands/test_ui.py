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
def test_the_deep_link_shows_three_curves_per_chart(tmp_path: Path, idx_folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    own = ("dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40", "epochs=4", "width=8")
    command = command_in(tmp_path)
    assert command("harness.run", *own, "batch=25").returncode == 0  # not of the sweep
    done = command("harness.run", "-m", *own, "batch=10,20,40")
    assert done.returncode == 0
    link = next(line.split()[-1] for line in done.stdout.splitlines() if "charts:" in line)
    port = free_port()
    with ui_on(port, tmp_path) as ui:
        assert ui.stdout is not None
        assert f"http://127.0.0.1:{port}" in ui.stdout.readline()
        match = re.fullmatch(
            r"(.*)&searchFilter=.*%25(\w+)%25%27", link.replace(":5000", f":{port}")
        )
        assert match
        assert ui.stdout.readline().split()[-1] == f"{match[1]}&viewStateShareKey=sweep-{match[2]}"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            page = browser.new_page(viewport={"width": 1500, "height": 3500})  # charts are lazy
            page.goto(link.replace(":5000", f":{port}"))
            page.wait_for_selector(".js-plotly-plot .scatterlayer .trace", timeout=60_000)
            page.wait_for_function(
                "() => document.querySelectorAll('.js-plotly-plot').length >= 11", timeout=60_000
            )
            page.wait_for_timeout(1_000)
            # What Plotly was given: per chart the names of the lines with a point for every epoch.
            curves = page.evaluate(
                """() => [...document.querySelectorAll('.js-plotly-plot')].map(
                    plot => [...new Set(plot.data.filter(line => line.x && line.x.length >= 4)
                                                 .map(line => line.name))]
                ).filter(names => names.length > 0)"""
            )
            text = page.inner_text("body")
            browser.close()
        assert len(curves) == 7, "loss and error of train and val, learning rate, and two times"
        for names in curves:
            assert sorted(name.split()[0] for name in names) == ["batch=10", "batch=20", "batch=40"]
        for name in ("batch=10", "batch=20", "batch=40"):
            assert re.search(rf"\b{name}\b", text)
        assert not re.search(r"\bbatch=25\b|,batch=25", text)
        family = [psutil.Process(ui.pid), *psutil.Process(ui.pid).children(recursive=True)]
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
            browser.close()
        for batch in (10, 20, 40, 80):
            for seed in (1, 2, 3):
                assert f"batch={batch},seed={seed}" in text
            assert f"Group: {batch}" in charts
        for column in ("best/val_error", "best/epoch", "test/error", "val/error"):
            assert column in text
        assert "errors of a classification are fractions" in text, "the experiment's note"
        assert "12 matching runs" in text
