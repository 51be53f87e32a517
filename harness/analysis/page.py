"""The report of a comparison as one HTML page without scripts, requests or other files."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from harness.analysis import fields, tables
from harness.analysis.drawing import Chart
from harness.analysis.fields import Fields
from harness.analysis.ranking import FIRST, TIE, Pair, Standing
from harness.analysis.settings import Setting

LONG = 30  # characters: the table of pairs shows a number for a longer setting
SENTENCE = 40  # characters: longer text in a cell counts as a sentence
STYLE = Path(__file__).with_name("page.css")
SECTIONS = {
    "search": "The course of the search",
    "curves": "Learning curves",
    "swept": "What was swept",
    "images": "What the best network gets wrong",
}
METHOD = (
    (
        "Best, last and judged epoch",
        "The best epoch of a run is the one with the {word} {title}; the last epoch is "
        "where training ended. Of equal epochs the latest is the best (in runs of earlier "
        "versions, the earliest). The judged epoch is the best one, or the last with weights=last: "
        "the run is ranked by it, and the built-in trainer reads the test set once, with its "
        "weights; a trainer of your own tests what it is written to test. "
        "Mean, ± (standard deviation with n - 1), best and worst are over seeds.",
    ),
    (
        "Chosen run and its interval",
        "The chosen run of a setting is the one with the {word} {title}. {interval}",
    ),
    (
        "Against the best",
        "The test of the difference in {test} from the setting ranked first. With two or more "
        "seeds in common: all sign flips, from the number of seeds that can reach 5 % (6 for one "
        "comparison, 9 for eleven) up to 20, and Student’s paired t for fewer or more seeds. With "
        "one seed: {one_seed}. p is corrected by Holm for the number of "
        "comparisons. A tie is a p of 0.05 or more: no difference was shown, which does not show "
        "that there is none. In a sweep with until=decided nothing is tested here, as the number "
        "of seeds follows from the results; its own rule, whose verdict is above, allows for that.",
    ),
    (
        "Seeds to tell",
        "The number of seeds with which a paired t test would detect a difference as large as the "
        "measured one in 80 % of cases, at 5 % divided by the number of comparisons. It is as "
        "uncertain as the measured difference. With one seed it is unknown: run at least three.",
    ),
    (
        "Pairs on the same test examples",
        "McNemar’s exact test of the chosen runs. It compares these trained networks, whose "
        "difference includes the effect of their seeds, and not the settings.",
    ),
)

NAMED = (
    (
        "{title} and its spread",
        "Of each run, the last value that it logged, of whatever epoch or step. Mean, ± (standard "
        "deviation with n - 1), best and worst are over {kind}. The 95 % confidence interval of "
        "the mean is Student’s.",
    ),
    ("Chosen run", "The chosen run of a setting is the one with the {word} {title}."),
)


@dataclass(frozen=True)
class Figure:
    """A figure of the page. section: a key of `SECTIONS`."""

    section: str
    title: str
    chart: Chart
    caption: str = ""


@dataclass(frozen=True)
class Comparison:
    """The content of a comparison.

    about: what was compared and when. notes: what was left out or is missing. standings: the
    ranking, best first. pairs: pairs of settings, by index in the ranking. name, note, question:
    what the user wrote about the sweep. asked_after: how many runs had finished when the question
    was asked. verdict: what `until=decided` decided. epochs: those of the trials of a search, None
    if it is not a search.
    """

    title: str
    about: str
    notes: Sequence[str]
    standings: Sequence[Standing]
    pairs: Sequence[Pair]
    figures: Sequence[Figure]
    name: str = ""
    note: str = ""
    question: str = ""
    asked_after: int = 0
    verdict: str = ""
    epochs: int | None = None

    @property
    def lead(self) -> str:
        """The answer in a few sentences."""
        return tables.lead(self.standings, self.verdict)

    @property
    def settings(self) -> list[Setting]:
        """The settings in the order of the ranking."""
        return [standing.setting for standing in self.standings]

    def setting_rows(self) -> list[Fields]:
        """The fields of the settings, in the order of the ranking."""
        return [fields.setting_fields(standing) for standing in self.standings]

    def run_rows(self) -> list[Fields]:
        """The fields of all runs, in the order of the ranking."""
        return [fields.run_fields(s, run) for s in self.settings for run in s.runs]

    def to_json(self) -> str:
        """All numbers and notes as JSON; settings are typed."""
        swept = self.settings[0].values
        return fields.to_json(
            {
                "format": "harness comparison",
                "version": 2,
                "title": self.title,
                "made": self.about,
                "name": self.name or None,
                "note": self.note or None,
                "question": self.question or None,
                "question_asked_after_runs": self.asked_after if self.question else None,
                "answer": self.lead,
                "verdict": self.verdict or None,
                "epochs": self.epochs,
                "costs": list(map(str, self.settings[0].costs)),
                "notes": list(self.notes),
                "settings": [fields.typed(row, swept) for row in self.setting_rows()],
                "runs": [fields.typed(row, swept) for row in self.run_rows()],
                "pairs": [fields.pair_fields(pair, self.settings) for pair in self.pairs],
            }
        )


def page(comparison: Comparison) -> str:
    """The whole HTML page."""
    best = comparison.settings[0]
    objective, kind = best.objective, "seeds" if best.has_seeds else "runs"
    numbers = "Errors in percent; mean" if objective.is_fraction else "Mean"
    if not objective.by_epoch:
        numbers = "Mean"
    body = [
        f"<header><h1>{escape(_title(comparison))}</h1>",
        f'<p class="soft">{escape(comparison.about)}</p>',
        _said(comparison),
        f'<p class="lead">{escape(comparison.lead)}</p></header><main>',
        _notes(comparison.notes),
        "<section><h2>Ranking</h2>",
        _ranking(comparison.standings),
        f'<p class="soft">{numbers} ± standard deviation over n {kind}.</p></section>',
    ]
    for key, title in SECTIONS.items():
        figures = [_figure(figure) for figure in comparison.figures if figure.section == key]
        if figures:
            body.append(
                f'<section><h2>{title}</h2><div class="figures">{"".join(figures)}</div></section>'
            )
        if key == "swept" and comparison.pairs:
            body += [
                "<section><h2>Pairs on the same test examples</h2>",
                _pairs(comparison),
                "</section>",
            ]
    body += [
        "<section><h2>More</h2><details><summary>All runs</summary>",
        _table("All runs", *tables.all_runs(comparison.settings)),
        "</details><details><summary>How to read this</summary><dl>",
        *(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in _method(best)),
        "</dl></details></section></main>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(_title(comparison))}</title><style>{STYLE.read_text()}</style></head><body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


def _method(best: Setting) -> list[tuple[str, str]]:
    """`METHOD` with the objective's name in it."""
    objective = best.objective
    counts = objective.tested.counts_examples
    method = METHOD if objective.by_epoch else (*NAMED, *METHOD[2 : None if counts else -1])
    words = {
        "kind": "seeds" if best.has_seeds else "runs",
        "word": objective.best_word,
        "title": objective.title,
        "test": objective.test_title,
        "interval": "The interval is the 95 % confidence interval of Wilson (1927) for its "
        f"{'error rate' if objective.name == 'error' else objective.name} on examples like those "
        "of the test set."
        if counts
        else "",
        "one_seed": "McNemar’s exact test over the examples" if counts else "none",
    }
    return [(term.format_map(words), text.format_map(words).strip()) for term, text in method]


def _title(comparison: Comparison) -> str:
    return f"{comparison.title} ({comparison.name})" if comparison.name else comparison.title


def _said(comparison: Comparison) -> str:
    """What the user wrote: the note, and the question that the lead answers."""
    text = ""
    if comparison.note:
        text += f'<p class="note">{escape(comparison.note)}</p>'
    if comparison.question:
        late = comparison.asked_after
        when = f"asked when {late} run(s) had finished" if late else "asked before the first job"
        text += (
            f'<p class="question"><strong>{escape(comparison.question)}</strong> '
            f'<span class="soft">({when})</span></p>'
        )
    return text


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<aside class="notes" aria-label="Notes"><ul>{items}</ul></aside>'


def _ranking(standings: Sequence[Standing]) -> str:
    styles = {**dict.fromkeys(FIRST, "best"), TIE: "tie"}
    return _table(
        "The settings, best first",
        *tables.ranking(standings),
        [styles.get(standing.verdict, "") for standing in standings],
    )


def _pairs(comparison: Comparison) -> str:
    shown = sorted({index for pair in comparison.pairs for index in (pair.first, pair.second)})
    cells = {(pair.second, pair.first): pair for pair in comparison.pairs}
    labels, legend = [comparison.settings[index].label for index in shown], ""
    if max(map(len, labels)) > LONG:
        labels = [f"no. {index + 1}" for index in shown]
        legend = " The numbers are those of the rows of the ranking."
    rows = []
    for index, label in zip(shown[1:], labels[1:], strict=True):
        row = [label]
        for other in shown[:-1]:
            pair = cells.get((index, other))
            row.append("" if pair is None else _pair(pair))
        rows.append(row)
    words = (
        '<p class="soft">p of McNemar’s exact test, corrected by Holm for '
        f"{len(comparison.pairs)} pair(s); in parentheses the number of examples that only the "
        f"row’s setting, and only the column’s setting, misclassifies.{legend}</p>"
    )
    return _table("McNemar’s test for every pair", ["", *labels[:-1]], rows) + words


def _pair(pair: Pair) -> str:
    return f"{tables.p_value(pair.p)} ({pair.only_second} : {pair.only_first})"


def _table(
    label: str, head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()
) -> str:
    """A table in a box that scrolls, also by keyboard. styles: the CSS class of each row."""
    titles = "".join(
        f'<th scope="col">{escape(title).replace(chr(10), "<br>")}</th>' for title in head
    )
    lines = []
    for number, row in enumerate(rows):
        style = f' class="{styles[number]}"' if styles and styles[number] else ""
        cells = "".join(
            f'<th scope="row">{escape(text)}</th>' if not column else _cell(text)
            for column, text in enumerate(row)
        )
        lines.append(f"<tr{style}>{cells}</tr>")
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{escape(label)}"><table>'
        f"<thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    """A cell, in several lines if it is a sentence."""
    style = ' class="long"' if len(text) > SENTENCE else ""
    return f"<td{style}>{escape(text)}</td>"


def _figure(figure: Figure) -> str:
    svg = figure.chart.svg.replace(
        "<svg ", f'<svg role="img" aria-label="{escape(figure.title)}" ', 1
    )
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    return f"<figure><h3>{escape(figure.title)}</h3>{svg}{caption}</figure>"
