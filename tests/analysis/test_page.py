"""The page of a report: its text, and in a real browser on phone, tablet and desktop."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.analysis import compare, page
from harness.tracking.recorded import Recorded
from tests.analysis.conftest import build, make_run
from tests.commands.test_ui import CHROMIUM, QUIET

LUMINANCE = """(color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(Number)
        .map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}"""


def in_a_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that opens the page in Chromium."""
    for mark in (
        pytest.mark.browser,
        pytest.mark.filterwarnings("ignore"),
        pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    ):
        test = mark(test)
    return test


class Page(HTMLParser):
    """The addresses that a page would fetch, and its text outside of styles and figures."""

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


def test_the_page_stands_alone(tmp_path: Path, six: list[Recorded]) -> None:
    files = compare.write(build(tmp_path, *six), tmp_path / "reports/abc")
    assert [path.name for path in files] == ["index.html", "settings.csv", "report.json"]
    text = files[0].read_text()
    parsed = Page(text)
    assert parsed.fetched == []
    assert not re.findall(r"url\((?!#|data:)", text)
    assert "@import" not in text
    assert "not distinguishable" in parsed.text.lower() or "worse" in parsed.text.lower()
    assert "batch=5 has the lowest validation error" in parsed.text
    assert "nan" not in parsed.text.split()
    header, *rows = files[1].read_text().splitlines()
    assert header.startswith("rank,batch,n,val_error_best_epoch_mean")
    assert len(rows) == 3


def test_html_in_names_is_only_text(tmp_path: Path, six: list[Recorded]) -> None:
    six[0].params["activation"] = "<script>alert(1)</script>"
    text = page.page(build(tmp_path, *six))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


@in_a_browser
def test_the_page_fits_every_screen_and_needs_no_network(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    recorded = [make_run(tmp_path, batch, seed) for batch in (5, 6, 30) for seed in (1, 2)]
    page_file = compare.write(build(tmp_path, *recorded), tmp_path / "reports/abc")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        for width in (390, 820, 1400):
            for scheme in ("light", "dark"):
                tab = browser.new_page(
                    viewport={"width": width, "height": 900},
                    color_scheme=scheme,  # type: ignore[arg-type]
                )
                requests: list[str] = []
                problems: list[str] = []
                tab.on("request", lambda request, seen=requests: seen.append(request.url))
                tab.on("console", lambda message, seen=problems: seen.append(message.text))
                tab.goto(page_file.as_uri())
                assert requests == [page_file.as_uri()]
                assert problems == []
                assert tab.evaluate("document.documentElement.scrollWidth") <= width
                sizes = tab.evaluate(
                    "[...document.querySelectorAll('figure svg text')].map("
                    "text => text.getBoundingClientRect().height)"
                )
                assert min(sizes) > 6, "the text of figures is legible on a phone"
                for selector in ("body", "figcaption", "thead th", "tr.best td", "figure svg text"):
                    check_contrast(tab, selector)
                tab.close()
        browser.close()


@in_a_browser
def test_a_wide_table_takes_the_window_and_shows_where_it_goes_on(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    recorded = [make_run(tmp_path, batch, seed) for batch in (5, 6, 30) for seed in (1, 2)]
    for run in recorded:
        run.params.update({f"a.long.name.of.key.{n}": run.params["batch"] for n in range(5)})
    page_file = compare.write(build(tmp_path, *recorded), tmp_path / "reports/abc")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        found = {}
        for width in (390, 1100, 2600):
            tab = browser.new_page(viewport={"width": width, "height": 900})
            tab.goto(page_file.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            found[width] = tab.evaluate(
                """() => {
                const box = document.querySelector('.box'), edge = box.getBoundingClientRect();
                return [box.scrollWidth - box.clientWidth, edge.left, edge.right,
                        document.querySelector('main').getBoundingClientRect().width,
                        getComputedStyle(box).backgroundAttachment];
            }"""
            )
            tab.close()
        browser.close()
    for width, (_, left, right, *_) in found.items():
        assert 0 <= left < right <= width
    assert found[390][0] > 0
    assert "local" in found[390][4], "a shadow that the end of the table covers"
    hidden, left, right, text, _ = found[2600]
    assert hidden == 0
    assert right - left > text


def check_contrast(page: object, selector: str) -> None:
    """WCAG's AA: 4.5 to 1 between the text and what lies under it."""
    ratio = page.evaluate(  # type: ignore[attr-defined]
        f"""(selector) => {{
        const luminance = {LUMINANCE};
        const element = document.querySelector(selector);
        const style = getComputedStyle(element);
        const ink = luminance(element.tagName === 'text' ? style.fill : style.color);
        let under = element, paper = 'rgba(0, 0, 0, 0)';
        while (under && /rgba\\(.*, 0\\)/.test(paper)) {{
            paper = getComputedStyle(under).backgroundColor;
            under = under.parentElement;
        }}
        const [low, high] = [ink, luminance(paper)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    }}""",
        selector,
    )
    assert ratio >= 4.5, f"{selector}: contrast {ratio:.1f}"


def test_long_settings_are_numbers_in_the_table_of_pairs(
    tmp_path: Path, six: list[Recorded]
) -> None:
    def pairs() -> str:
        text = Page(page.page(build(tmp_path, *six))).text
        return text.partition("Pairs on the same test examples")[2].partition("p of McNemar")[0]

    assert "batch=5" in pairs()
    for run in six:
        run.params["optimizer.weight_decay"] = f"0.000{run.params['batch']}"
    assert "batch=5" not in pairs()
    assert [f"no. {number}" in pairs() for number in (1, 2, 3, 4)] == [True] * 3 + [False]


@in_a_browser
def test_the_page_is_used_by_keyboard(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    recorded = [make_run(tmp_path, batch, 1) for batch in (5, 6, 30)]
    page_file = compare.write(build(tmp_path, *recorded), tmp_path / "reports/abc")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        tab = browser.new_page(viewport={"width": 390, "height": 800})
        tab.goto(page_file.as_uri())
        tab.keyboard.press("Tab")
        label = "document.activeElement.getAttribute('aria-label')"
        assert tab.evaluate(label) == "The settings, best first"
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("ArrowRight")
        tab.wait_for_function("document.activeElement.scrollLeft > 0")
        tab.keyboard.press("Tab")  # the table of pairs
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.textContent") == "All runs"
        tab.keyboard.press("Enter")
        assert tab.evaluate("document.activeElement.parentElement.open")
        assert tab.is_visible("text=00501-x")
        browser.close()
