"""A comparison as sentences for a paper: one claim a line, with its numbers and its test."""

from collections.abc import Sequence

from harness.analysis import tables
from harness.analysis.ranking import TIE, Standing
from harness.analysis.settings import Setting
from harness.runfolder.objective import Objective


def sentences(standings: Sequence[Standing], *, data: str, verdict: str = "") -> list[str]:
    """A claim about the best setting, and one about each other setting. data: the data set.

    verdict: the verdict of `until=decided`; it comes first.
    """
    best, *others = standings
    objective = best.setting.objective
    on = f" on {data}" if data else ""
    test = f"{objective.test_title} of {_measured(best.setting)}"
    if not objective.is_tested_apart:
        how = f"has the {objective.best_word} {test}" if others else f"has a {test}"
    elif best.rank is None:
        how = f"was not chosen on validation examples; it has the {objective.best_word} {test}"
    elif others:
        how = f"was chosen for the {objective.best_word} {objective.title} and has a {test}"
    else:
        how = f"has a {test}"
    said = tables.decided(standings, verdict)
    lines = [*([f"{said}."] if said else []), f"{best.setting.label}{on} {how}."]
    count = sum(standing.p is not None for standing in others)
    return [*lines, *(_claim(best.setting, other, count) for other in others)]


def _claim(best: Setting, standing: Standing, comparisons: int) -> str:
    objective, other = best.objective.tested, standing.setting
    title = best.objective.test_title
    of_other = f"{other.label} ({_measured(other)})"
    if standing.p is None or standing.difference is None:
        why = f": {standing.why}" if standing.why else ""
        return f"{of_other} was not tested against {best.label}{why}."
    size = _size(abs(standing.difference), objective)
    p = tables.p_value(standing.p)
    corrected = f", Holm-corrected for {comparisons} comparisons" if comparisons > 1 else ""
    tested = f"p {p if p[0] == '<' else f'= {p}'}, {standing.why}{corrected}"
    if standing.verdict == TIE:
        return (
            f"No difference in {title} between {best.label} and {of_other} was shown "
            f"({size}; {tested})."
        )
    word = "higher" if standing.difference > 0 else "lower"
    return f"{of_other} has a {word} {title} than {best.label} (by {size}; {tested})."


def _measured(setting: Setting) -> str:
    """`1.97 % ± 0.05, n = 6`, the test metric of a setting."""
    text = tables.spread(setting.test, setting.objective.tested)
    if " ± " in text and text.endswith(" %"):
        text = text.removesuffix(" %").replace(" ± ", " % ± ")
    return f"{text}, n = {len(setting.runs)}"


def _size(difference: float, objective: Objective) -> str:
    if objective.is_fraction:
        return f"{objective.factor * difference:.2f} percentage points"
    return f"{difference:.3g}"
