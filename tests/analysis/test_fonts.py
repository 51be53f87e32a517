"""Text that the default font lacks is drawn with another font, or as boxes, without a warning."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.image import imread

from harness.analysis import charts, fonts, plots

NOWHERE = "\N{LINEAR B SYLLABLE B008 A}"  # in none of the fonts that Matplotlib brings
FOREIGN = f"日本 🦀 {NOWHERE}"


@pytest.fixture
def only_bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No font of this machine beside those that Matplotlib brings."""
    bundled = [each for each in fontManager.ttflist if "mpl-data" in each.fname]
    monkeypatch.setattr(fontManager, "ttflist", bundled)
    fonts.families.cache_clear()


@pytest.mark.usefixtures("only_bundled")
def test_a_font_that_has_the_letter_follows_the_default() -> None:
    own = set(get_font(findfont(FontProperties(family=[fonts.DEFAULT]))).get_charmap())
    (other,) = [e for e in fontManager.ttflist if e.name == "STIXGeneral" and
                e.style == "normal" and e.weight == 400]  # fmt: skip
    letter = chr(min(code for code in get_font(other.fname).get_charmap() if code not in own))
    assert len(fonts.families(f"seed=1 {letter}")) == 2
    assert fonts.families("seed=1") == fonts.families(NOWHERE) == (fonts.DEFAULT,)


@pytest.mark.usefixtures("only_bundled")
def test_text_that_no_font_has_is_drawn_without_a_warning(tmp_path: Path) -> None:
    """Warnings are errors here. The SVG has the text, which the browser draws."""
    svg = charts.confusion(np.eye(3, dtype=np.int64), ["日本", "🦀", NOWHERE]).svg
    assert all(name in svg for name in ("日本", "🦀", NOWHERE))
    path = tmp_path / "curves.png"
    plots.learning_curves(path, FOREIGN, {"loss": {"train": [0.5, 0.2]}})
    drawn = imread(path)
    plots.learning_curves(path, "", {"loss": {"train": [0.5, 0.2]}})
    assert not np.array_equal(drawn, imread(path)), "boxes"
    plots.deformations(tmp_path / "samples.png", FOREIGN, np.ones((1, 2, 4, 4)))
