"""The report in a real browser: phone, tablet and desktop, light and dark, by keyboard."""

from pathlib import Path

import pytest

from harness.analysis import compare
from tests.commands.test_ui import CHROMIUM, QUIET
from tests.test_compare import build, make_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
LUMINANCE = """(color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(Number)
        .map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}"""


def test_the_page_fits_every_screen_and_needs_no_network(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    recorded = [make_run(tmp_path, batch, seed) for batch in (5, 6, 30) for seed in (1, 2)]
    page_file = compare.write(build(tmp_path, *recorded), tmp_path / "reports/abc")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        for width in (390, 820, 1400):
            for scheme in ("light", "dark"):
                page = browser.new_page(
                    viewport={"width": width, "height": 900},
                    color_scheme=scheme,  # type: ignore[arg-type]
                )
                requests: list[str] = []
                problems: list[str] = []
                page.on("request", lambda request, seen=requests: seen.append(request.url))
                page.on("console", lambda message, seen=problems: seen.append(message.text))
                page.goto(page_file.as_uri())
                assert requests == [page_file.as_uri()]
                assert problems == []
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                sizes = page.evaluate(
                    "[...document.querySelectorAll('figure svg text')].map("
                    "text => text.getBoundingClientRect().height)"
                )
                assert min(sizes) > 6, "letters of pictures can be read on a phone"
                for selector in ("body", "figcaption", "thead th", "tr.best td", "figure svg text"):
                    check_contrast(page, selector)
                page.close()
        browser.close()


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


def test_the_page_is_used_by_keyboard(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    recorded = [make_run(tmp_path, batch, 1) for batch in (5, 6, 30)]
    page_file = compare.write(build(tmp_path, *recorded), tmp_path / "reports/abc")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto(page_file.as_uri())
        page.keyboard.press("Tab")
        label = "document.activeElement.getAttribute('aria-label')"
        assert page.evaluate(label) == "The settings, best first"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.activeElement.scrollLeft > 0")
        page.keyboard.press("Tab")  # the table of pairs
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "All runs"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.parentElement.open")
        assert page.is_visible("text=00501-x")
        browser.close()
