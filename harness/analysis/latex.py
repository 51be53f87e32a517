r"""A comparison as a table for a LaTeX document that loads `booktabs`.

The setting that was chosen on validation is bold; a setting that is not distinguishable from it
has the mark =. The caption says which test was used and how p was corrected.
"""

import math
from collections.abc import Sequence

from harness.analysis import tables
from harness.analysis.ranking import BETTER, FIRST, TIE, Standing, are_untested
from harness.analysis.settings import Summary
from harness.runfolder.objective import Objective

SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",  # others in OT1, the default
}  # fmt: skip
MARKS = {TIE: r"\textsuperscript{=}", BETTER: r"\textsuperscript{+}"}


def escaped(text: str) -> str:
    """A text as LaTeX shows it."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def table(standings: Sequence[Standing], *, data: str, label: str) -> str:
    """The ranking as a `table` environment. data: the name of the data set, or empty."""
    setting = standings[0].setting
    keys, objective = list(setting.values), setting.objective
    validated = not math.isnan(setting.best_val.mean) and objective.is_tested_apart
    titles = [escaped(key) for key in keys] + ["$n$"]
    titles += [f"{escaped(objective.title)}{_percent(objective)}"] * validated
    titles += [f"{escaped(objective.test_title)}{_percent(objective.tested)}", "$p$"]
    columns = "l" * len(keys) + "r" * (len(titles) - len(keys))
    rows = [_row(standing, validated=validated) for standing in standings]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption(standings, data)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(titles) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
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
        text += (
            f" $p$ is of the difference from it in {escaped(objective.test_title)}"
            f" ({escaped('; '.join(whys))}; two-sided, Holm-corrected for {times})."
        )
    if are_untested(standings):
        text += " There is no $p$, because seeds were added by results."
    for verdict, words in ((TIE, r"not distinguishable from it at 5\,\%"), (BETTER, "better")):
        if any(standing.verdict == verdict for standing in standings):
            text += f" {MARKS[verdict]}: {words}."
    return text


def _row(standing: Standing, *, validated: bool) -> list[str]:
    setting, objective = standing.setting, standing.setting.objective
    cells = [*map(escaped, setting.shown.values()), str(len(setting.runs))]
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
    mean, deviation = objective.factor * summary.mean, objective.factor * summary.deviation
    form = (".2f", ".2f") if objective.is_fraction else (".4g", ".2g")
    text = format(mean, form[0])
    return text if math.isnan(deviation) else rf"{text} $\pm$ {format(deviation, form[1])}"


def _p(p: float | None) -> str:
    return "--" if p is None else f"${tables.p_value(p)}$"
