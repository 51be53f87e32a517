"""The ranking as a LaTeX table: what is bold, what is marked, and what the caption says."""

import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import latex, ranking
from harness.analysis.ranking import Standing
from harness.analysis.settings import group
from harness.runfolder.objective import Objective
from tests.analysis.conftest import seed_run

SEEDS = range(1, 8)


@pytest.fixture
def standings() -> list[Standing]:
    """Three settings over seven seeds: the best, one that ties with it, and a worse one."""
    generator = np.random.default_rng(3)
    runs = [
        seed_run(batch, seed, [0.5, error + generator.normal(0, 1e-4)],
                 error + generator.normal(0, 1e-3))
        for batch, error in ((16, 0.02), (32, 0.0201), (64, 0.03)) for seed in SEEDS
    ]  # fmt: skip
    settings = ranking.ordered(group(runs, []), [])
    return ranking.stand(settings, {})


def rows(text: str) -> list[list[str]]:
    """The cells of the rows between the rules."""
    body = text[text.index("\\midrule") : text.index("\\bottomrule")]
    return [line.removesuffix(r" \\").split(" & ") for line in body.splitlines()[1:]]


def test_the_best_is_bold_and_ties_are_marked(standings: list[Standing]) -> None:
    text = latex.table(standings, data="mnist", label="ab12")
    best, tie, worse = rows(text)
    assert best[:2] == [r"\textbf{16}", r"\textbf{7}"]
    assert re.fullmatch(r"\\textbf\{\d\.\d\d \$\\pm\$ \d\.\d\d\}", best[3])
    assert best[4] == "--"
    assert re.fullmatch(r"\d\.\d\d \$\\pm\$ \d\.\d\d\\rlap\{\\textsuperscript\{=\}\}", tie[3])
    assert "textbf" not in "".join(tie + worse)
    assert worse[0] == "64"
    assert "superscript" not in worse[3]
    assert float(worse[4].strip("$")) < 0.05
    assert r"\begin{tabular}{lrrrr}" in text
    assert r"batch & $n$ & validation error (\%) & test error (\%) & $p$ \\" in text
    assert r"\label{tab:ab12}" in text
    assert text.count("{") == text.count("}")


def test_the_caption_says_which_test_and_how_it_was_corrected(standings: list[Standing]) -> None:
    caption = latex.caption(standings, "mnist")
    begin = r"Test error on mnist, mean $\pm$ standard deviation over $n$ seeds. "
    assert caption.startswith(begin)
    assert r"\textbf{Bold}: the setting with the lowest validation error." in caption
    assert "sign flips over 7 seeds; two-sided, Holm-corrected for 2 comparisons" in caption
    assert r"\textsuperscript{=}: not distinguishable from it at 5\,\%." in caption
    assert "textsuperscript{+}" not in caption


def wide(values: dict[str, tuple[str, ...]]) -> str:
    """The table of a grid over these values and two seeds."""
    runs = [
        replace(run, settings={"seed": str(seed), **dict(zip(values, each, strict=True))})
        for each in itertools.product(*values.values())
        for seed in (1, 2)
        for run in (seed_run(16, seed, [0.5, 0.02 + seed / 1000], 0.03),)
    ]
    return latex.table(ranking.stand(ranking.ordered(group(runs, []), []), {}), data="", label="x")


def test_a_wide_table_has_small_letters_and_short_names() -> None:
    names = ("mine.parts:Lion", "mine.parts:Tiger")
    keys = {"optimizer.weight_decay": ("0.0005", "1e-05"), "augmentation.rotation": ("2.5", "15")}
    text = wide({"optimizer.name": names} | keys)
    assert r"\footnotesize" in text
    assert r"optimizer & weight\_decay & rotation & $n$" in text
    assert sorted({row[0] for row in rows(text)[1:]}) == ["Lion", "Tiger"]
    assert "parts" not in text
    assert "footnotesize" not in wide({"optimizer.name": names})


def test_the_settings_of_a_table_that_is_still_too_wide_are_listed() -> None:
    path = f"/data/{'deep/' * 12}one.npz"
    text = wide({"dataset.file": (path, "/data/two.npz"), "some_long_name": ("a" * 40, "b" * 40)})
    assert r"setting & $n$ & validation error" in text
    assert [row[0] for row in rows(text)] == [r"\textbf{1}", "2", "3", "4"]
    listed = text.partition(r"\medskip")[2]
    assert listed.count(r"\tabularnewline") == 4
    assert path in listed.replace(r"\allowbreak{}", "")
    assert rf"dataset.file=/data/two.npz, some\_long\_name={'a' * 40} \tabularnewline" in listed


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["m.a:Lion", "m.b:Lion", "adam"], ["a:Lion", "b:Lion", "adam"]),
        (["0.1", "0.2"], ["0.1", "0.2"]),
        (["[0.1, 0.5]", "[0.2, 0.5]"], ["[0.1, 0.5]", "[0.2, 0.5]"]),
        (["/a/x.npz", "/b/y.npz"], ["x.npz", "y.npz"]),
        (["one", "one"], ["one", "one"]),
    ],
)
def test_short_names_are_told_apart(names: list[str], short: list[str]) -> None:
    assert latex._endings(names) == short


@pytest.mark.service
@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="apt-get install texlive-latex-recommended"
)
def test_a_table_is_as_wide_as_the_text(tmp_path: Path, standings: list[Standing]) -> None:
    values = {f"some.rather_long_key_{n}": (f"value{n}.of:It", f"value{n}.of:That") for n in "ab"}
    tables = [latex.table(standings, data="mnist", label="a"), wide(values),
              wide(values | {"one.more": ("a" * 60, "/" + "long/" * 30)}),
              wide({"width": ("[64, 32]", "[64]", "*")})]  # fmt: skip
    text = "\n".join(
        [r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}", *tables,
         r"\end{document}"]
    )  # fmt: skip
    (tmp_path / "paper.tex").write_text(text)
    done = subprocess.run(
        ["pdflatex", "-interaction=batchmode", "-halt-on-error", "paper"], cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    assert "Overfull" not in (tmp_path / "paper.log").read_text()


def test_one_seed_and_no_validation() -> None:
    runs = [seed_run(batch, 1, [], error) for batch, error in ((16, 0.02), (32, 0.03))]
    standings = ranking.stand(ranking.ordered(group(runs, []), []), {})
    text = latex.table(standings, data="", label="x")
    assert "Test error, one seed. There was no validation set; " in text
    assert "validation error" not in text
    assert rows(text) == [["16", "1", "2.00", "--"], ["32", "1", "3.00", "--"]]


def test_without_validation_the_first_row_is_what_others_are_compared_with() -> None:
    runs = [seed_run(b, s, [], (b + s) / 1e3) for b in (16, 32) for s in (1, 2, 3)]
    standings = ranking.stand(ranking.ordered(group(runs, []), []), {})
    caption = latex.caption(standings, "")
    assert "$p$ is of the difference from the first row in test error" in caption


def test_an_objective_that_is_no_fraction() -> None:
    objective = Objective.parse("val/loss")
    runs = [seed_run(8, seed, [0.123456], 0.2 + seed / 10, objective) for seed in (1, 2)]
    (row,) = rows(latex.table(ranking.stand(group(runs, []), {}), data="", label="x"))
    assert row[2] == r"\textbf{0.350 $\pm$ 0.071}", "as many digits as the standard deviation"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b", r"a\_b"),
        ("50 %", r"50 \%"),
        ("a<b|c>", r"a\textless{}b\textbar{}c\textgreater{}"),
        ("[64, 32]", "{[}64, 32]"),
        ("*", "{*}"),
        ("{x}^2~\\$", r"\{x\}\textasciicircum{}2\textasciitilde{}\textbackslash{}\$"),
    ],
)
def test_special_letters_are_escaped(text: str, shown: str) -> None:
    assert latex.escaped(text) == shown


def test_names_of_settings_and_data_are_escaped(standings: list[Standing], tmp_path: Path) -> None:
    best = standings[0]
    values = {"optimizer.beta_1": "my_mod:A&B"}
    named = replace(best, setting=replace(best.setting, values=values, rounded={}))
    text = latex.table([named], data="my_data", label="x")
    assert r"optimizer.beta\_1" in text
    assert r"my\_mod:A\&B" in text
    assert r"on my\_data" in text


def test_a_caption_says_why_there_is_no_p() -> None:
    runs = [seed_run(b, s, [b / 1e3], (b + s) / 1e3) for b in (16, 32) for s in range(1, 7)]
    runs = [replace(run, is_raced=True) for run in runs]
    standings = ranking.stand(ranking.ordered(group(runs, []), []), {})
    caption = latex.caption(standings, "")
    assert caption.endswith(" There is no $p$, because seeds were added by results.")
