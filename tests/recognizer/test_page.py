"""The page in a real browser: MNIST digits drawn with the mouse as pen strokes."""

from pathlib import Path

import numpy as np
import pytest

from harness.data import dataset
from tests.commands.test_ui import CHROMIUM, QUIET
from tests.recognizer.skeleton import strokes
from tests.recognizer.test_server import port  # noqa: F401  # the fixture

COUNT, RIGHT = 12, 9  # the small network of these tests has an error of 4 % on MNIST


def draw(page, digit, scale: float, left: float, top: float) -> None:
    box = page.locator("#paper").bounding_box()
    for walk in strokes(digit):
        points = [
            (
                box["x"] + box["width"] * (left + scale * (column + 0.5) / 28),
                box["y"] + box["height"] * (top + scale * (row + 0.5) / 28),
            )
            for row, column in walk
        ]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def settle(page) -> None:
    """Wait for the answer to the last stroke."""
    page.wait_for_function("() => !busy && !again && !timer", timeout=60_000)


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_drawn_digits_are_read(port: int, outputs: Path, tmp_path: Path) -> None:  # noqa: F811
    from playwright.sync_api import sync_playwright

    test = dataset.load("mnist", cache=outputs / "cache").test
    address, complaints = f"http://127.0.0.1:{port}/", []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        foreign = []
        page.on("request", lambda r: None if r.url.startswith(address) else foreign.append(r.url))
        page.goto(address)
        page.wait_for_selector("#models option", state="attached")
        right = 0
        random = np.random.default_rng(5)
        for index in range(COUNT):
            scale = random.uniform(0.35, 0.9)
            left, top = random.uniform(0, 1 - scale, 2)
            draw(page, test.inputs[index].reshape(28, 28), scale, left, top)
            settle(page)
            right += page.inner_text("#digit") == str(test.labels[index])
            assert page.inner_text("#words")
            page.click("#clear")
            settle(page)
            assert page.inner_text("#digit") == "?"
        assert right >= RIGHT
        assert page.locator("#bars tr").count() == 10

        draw(page, test.inputs[0].reshape(28, 28), 0.7, 0.1, 0.1)
        page.click("#undo")
        assert page.is_disabled("#undo")

        page.focus("#paper")  # a 1 from the keyboard alone
        for key in ["ArrowUp"] * 8 + [" "] + ["ArrowDown"] * 16 + [" "]:
            page.keyboard.press(key)
        settle(page)
        assert page.inner_text("#digit") == "1"
        page.keyboard.press("c")
        settle(page)
        assert page.inner_text("#words") == "Nothing drawn yet."
        browser.close()
    assert complaints == []
    assert foreign == []
