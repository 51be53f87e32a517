r"""A comparison as a table for a LaTeX document that loads `booktabs`.

The setting that was chosen on validation is bold; a setting that is not distinguishable from it
has the mark =. The caption says which test was used and how p was corrected.

A table wider than the text of an article gets smaller letters and short names. If that is not
enough, its settings are numbered, and their values are listed below it.
"""

import math
import re
from collections.abc import Sequence

from harness.analysis import tables
from harness.analysis.ranking import BETTER, BY_RESULTS, FIRST, TIE, Standing, are_untested
from harness.analysis.settings import Setting, Summary
from harness.runfolder.objective import Objective

SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",  # others in OT1, the default
    "[": "{[}", "*": "{*}",  # an option of the end of the row before, where a row begins with it
}  # fmt: skip
TEXT_PT = 345  # the width of the text of the class article
LETTER_PT, SMALL_PT = 4.8, 4.1  # on average, in \normalsize and \footnotesize
LONG = 60  # letters that may be broken between lines
GAP_PT, SMALL_GAP_PT = 12, 8  # between columns
MARKS = {TIE: r"\textsuperscript{=}", BETTER: r"\textsuperscript{+}"}


def escaped(text: str) -> str:
    """A text as LaTeX shows it."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def table(standings: Sequence[Standing], *, data: str, label: str) -> str:
    """The ranking as a `table` environment. data: the name of the data set, or empty."""
    settings = [standing.setting for standing in standings]
    keys, columns = list(settings[0].shown), [list(each.shown.values()) for each in settings]
    size, listed = [], []
    rows = _rows(standings, keys, columns)
    if _width(rows, LETTER_PT, GAP_PT) > TEXT_PT:
        size = [r"\footnotesize", rf"\setlength{{\tabcolsep}}{{{SMALL_GAP_PT // 2}pt}}"]
        short = [_endings(column) for column in zip(*columns, strict=True)]
        rows = _rows(standings, _endings(keys), list(zip(*short, strict=True)))
        if _width(rows, SMALL_PT, SMALL_GAP_PT) > TEXT_PT:
            numbers = [[str(number)] for number in range(1, 1 + len(settings))]
            rows, listed = _rows(standings, ["setting"], numbers), _list(settings)
            keys, size = ["setting"], size[:1]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption(standings, data)}}}",
        rf"\label{{tab:{label}}}",
        *size,
        rf"\begin{{tabular}}{{{'l' * len(keys)}{'r' * (len(rows[0]) - len(keys))}}}",
        r"\toprule",
        " & ".join(rows[0]) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows[1:]),
        r"\bottomrule",
        r"\end{tabular}",
        *listed,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def caption(standings: Sequence[Standing], data: str) -> str:
    """What the table shows: quantity, spread, choice, test and correction."""
    best = standings[0]
    objective = best.setting.objective
    on = f" on {escaped(data)}" if data else ""
    most = max(len(standing.setting.runs) for standing in standings)
    kind = "seed" if best.setting.has_seeds else "run"
    spread = rf", mean $\pm$ standard deviation over $n$ {kind}s" if most > 1 else f", one {kind}"
    text = f"{objective.heading(escaped(objective.test_title))}{on}{spread}. "
    if best.rank is None:
        text += "There was no validation set; the rows are in the order of the test results."
    else:
        chosen = f"{objective.best_word} {escaped(objective.title)}"
        text += rf"\textbf{{Bold}}: the setting with the {chosen}."
    tested = [standing for standing in standings if standing.p is not None]
    if tested:
        whys = list(dict.fromkeys(standing.why for standing in tested))
        count = len(tested)
        times = "one comparison" if count == 1 else f"{count} comparisons"
        first = "the first row" if best.rank is None else "it"
        text += (
            f" $p$ is of the difference from {first} in {escaped(objective.test_title)}"
            f" ({escaped('; '.join(whys))}; two-sided, Holm-corrected for {times})."
        )
    if are_untested(standings):
        text += " There is no $p$, because seeds were added by results."
    elif any(standing.why == BY_RESULTS for standing in standings):
        text += (
            " A setting without $p$ has seeds that were added by results, or got no more by them."
        )
    of_first = "" if best.rank is None else " from it"
    for verdict, words in ((TIE, rf"not distinguishable{of_first} at 5\,\%"), (BETTER, "better")):
        if any(standing.verdict == verdict for standing in standings):
            text += f" {MARKS[verdict]}: {words}."
    return text


def _rows(
    standings: Sequence[Standing], keys: Sequence[str], columns: Sequence[Sequence[str]]
) -> list[list[str]]:
    """The title cells and the setting cells. keys, columns: those that distinguish the settings."""
    setting = standings[0].setting
    objective = setting.objective
    validated = not math.isnan(setting.best_val.mean) and objective.is_tested_apart
    titles = [escaped(key) for key in keys] + ["$n$"]
    titles += [f"{escaped(objective.title)}{_percent(objective)}"] * validated
    titles += [f"{escaped(objective.test_title)}{_percent(objective.tested)}", "$p$"]
    pairs = zip(standings, columns, strict=True)
    return [titles, *(_row(each, values, validated=validated) for each, values in pairs)]


def _width(rows: Sequence[Sequence[str]], letter: float, gap: float) -> float:
    """About how wide a table is, in points, with letters and gaps of these widths."""
    texts = [[re.sub(r"\\[A-Za-z]+|[\\{}$]", "", cell) for cell in row] for row in rows]
    widest = (max(map(len, column)) for column in zip(*texts, strict=True))
    return sum(letter * width + gap for width in widest)


def _endings(names: Sequence[str]) -> list[str]:
    """The fewest last parts of dotted keys, custom part names and paths that tell them apart."""
    is_long = [re.fullmatch(r"[^\s\[\]]*[A-Za-z_]\w*", name) for name in names]
    parts = [re.split(r"(?<=[./:])", name) if is_ else [name]
             for name, is_ in zip(names, is_long, strict=True)]  # fmt: skip
    for count in range(1, max(map(len, parts), default=1)):
        short = ["".join(each[-count:]) for each in parts]
        if len({*short}) == len({*names}):
            return short
    return list(names)


def _list(settings: Sequence[Setting]) -> list[str]:
    """The values of numbered settings, in lines as wide as the text."""
    rows = []
    for number, setting in enumerate(settings, 1):
        pairs = [escaped(f"{key}={value}") for key, value in setting.shown.items()]
        text = ", ".join(re.sub(r"(?<=[.:/=])(?!\d)", r"\\allowbreak{}", each)
                         if len(each) > LONG else each for each in pairs)  # fmt: skip
        rows.append(rf"{number} & \raggedright {text} \tabularnewline")
    columns = r"{@{}lp{0.9\linewidth}@{}}"
    return ["", r"\medskip", rf"\begin{{tabular}}{columns}", *rows, r"\end{tabular}"]


def _row(standing: Standing, values: Sequence[str], *, validated: bool) -> list[str]:
    setting, objective = standing.setting, standing.setting.objective
    cells = [*map(escaped, values), str(len(setting.runs))]
    if validated:
        cells.append(_spread(setting.best_val, objective))
    mark = MARKS.get(standing.verdict)  # takes no width, so that the numbers are aligned
    cells.append(_spread(setting.test, objective.tested) + (rf"\rlap{{{mark}}}" if mark else ""))
    if standing.verdict in FIRST and standing.rank is not None:
        cells = [rf"\textbf{{{cell}}}" for cell in cells]
    return [*cells, _p(standing.p)]


def _percent(objective: Objective) -> str:
    return r" (\%)" if objective.is_fraction else ""


def _spread(summary: Summary, objective: Objective) -> str:
    if math.isnan(summary.mean):
        return "--"
    return tables.spread(summary, objective).removesuffix(" %").replace("±", r"$\pm$")


def _p(p: float | None) -> str:
    return "--" if p is None else f"${tables.p_value(p)}$"
