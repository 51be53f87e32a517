"""Read the metric, the seed and the settings of runs of any MLflow program.

The rows of a comparison are `SeedRun`s. `evidence.py` reads them from runs of this program, whose
keys it knows. For other runs, a `Measure` says which metric, param or tag holds each value.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

import numpy as np

from harness.analysis import comparable
from harness.analysis.named_metric import NamedMetric
from harness.analysis.seed_run import SEED, WEIGHTS, SeedRun
from harness.analysis.settings import BACKEND, CODE, DATA
from harness.runfolder.keys import determines_result
from harness.runfolder.objective import check_direction, directed
from harness.tracking.recorded import Recorded
from harness.tracking.selection import Selection

PARAMS, TAGS = "params.", "tags."
OWN = "run.id"  # the tag of a run of this program
HUGE = 1e308  # MLflow databases store infinity as a number above this
LISTED = 5
UNSEEDED = ("None", "null")  # no seed, as text
SEED_WORDS = {"seed", "rng", "random_state", "random_seed", "rng_seed"}
# Names that mean something else in a comparison, or are those of other columns of its tables.
RESERVED = {
    SEED, WEIGHTS, DATA, CODE, BACKEND, "rank", "run", "n", "chosen_run", "against_best",
    "test_difference", "p_holm", "tested", "seeds_to_tell",
}  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """Where the values of a run are; see `of`.

    metric: the metric that ranks. test: the metric that is tested; None: the same. seed_key: a
    param or tag, such as `params.random_state`; without it, runs are not paired. settings: patterns
    of params and tags.
    """

    metric: NamedMetric
    test: NamedMetric | None = None
    seed_key: str | None = None
    settings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        metric: str | None,
        test_metric: str | None = None,
        seed_key: str | None = None,
        settings: Sequence[str] = (),
    ) -> "Measure | None":
        """The measure of options as typed; None without a metric.

        Raises `ValueError` with a one-line message for invalid options.
        """
        if metric is None:
            for option, value in (
                ("--test-metric", test_metric), ("--seed-key", seed_key),
                ("--setting", " ".join(settings)),
            ):  # fmt: skip
                if value:
                    raise ValueError(f"{option} {value}: expected --metric NAME as well")
            return None
        for option, keys in (
            ("--seed-key", [seed_key] if seed_key else []),
            ("--setting", settings),
        ):
            for key in keys:
                if not re.match(r"(params|tags)\.+.", key):
                    raise ValueError(
                        f"{option} {key}: expected params.NAME or tags.NAME, such as params.{key}"
                    )
        ranks, tested = _parsed("--metric", metric), None
        if test_metric is not None:
            tested = _parsed("--test-metric", test_metric)
        return cls(ranks, None if tested == ranks else tested, seed_key, tuple(settings))

    @property
    def folder(self) -> str:
        """A name for the report's folder, appended to that of the selection."""
        names = [each.metric for each in (self.metric, self.test) if each]
        return "-".join(re.sub(r"[^\w.-]+", "_", name) for name in names)

    def read(self, selection: Selection, notes: list[str]) -> tuple[list[Recorded], list[SeedRun]]:
        """The finished runs that have the metric, and their values.

        notes: receives what was left out and what the comparison cannot show. Raises `ValueError`
        with a one-line message if there is nothing to compare.
        """
        of_task = comparable.of_one_named_data_set(selection, notes)
        done = comparable.only_finished(of_task, notes)
        known = self._measured(selection.title, done, notes)
        selection.source.add_curves(known, (self.metric.metric,))
        seeds, settings = self._seeds(known, notes), self._settings(known)
        _note_hidden(known, settings, self._seed_key(known), notes)
        _note_alone(known, seeds, settings, notes)
        data = _data(known, seeds, notes, is_paired=any(seeds))
        objective = self._objective(known)
        self._note_choice(notes)
        rows = zip(known, seeds, settings, data, strict=True)
        return known, [_seed_run(objective, *values) for values in rows]

    def _measured(self, title: str, done: Sequence[Recorded], notes: list[str]) -> list[Recorded]:
        """The runs with a finite value of the metric."""
        names = dict.fromkeys(key for run in done for key in run.final)
        for option, metric in (("--metric", self.metric), ("--test-metric", self.test)):
            if metric and metric.metric not in names:
                wrong = f"{option} {metric.metric}: no finished run of {title} has it"
                raise ValueError(wrong + expected(metric.metric, names))
        key = self.metric.metric
        known = [run for run in done if _is_finite(run.final.get(key, math.nan))]
        missing = sum(key not in run.final for run in done)
        infinite = len(done) - len(known) - missing
        if missing:
            notes.append(f"{missing} finished run(s) have no {key} and were left out")
        if infinite:
            notes.append(
                f"{infinite} finished run(s) have a {key} that is not finite and were left out: "
                "their settings look better than they are"
            )
        if not known:
            raise ValueError(f"--metric {key}: no finished run of {title} has a finite value")
        tested = sum(not _is_finite(run.final.get(self._tested, math.nan)) for run in known)
        if tested:
            notes.append(f"{tested} run(s) have no finite {self._tested}")
        return known

    @property
    def _tested(self) -> str:
        return (self.test or self.metric).metric

    def _objective(self, runs: Sequence[Recorded]) -> NamedMetric:
        def with_share(metric: NamedMetric) -> NamedMetric:
            values = [run.final[metric.metric] for run in runs if metric.metric in run.final]
            curves = [run.curves.get(metric.metric, np.zeros(0)) for run in runs]
            every = np.concatenate([np.array(values), *curves])
            known = every[np.isfinite(every)]
            return replace(metric, is_share=bool(((known >= 0) & (known <= 1)).all()))

        return replace(with_share(self.metric), other=self.test and with_share(self.test))

    def _seed_key(self, runs: Sequence[Recorded]) -> str | None:
        """The key as given, else this program's seed key if all runs are its own."""
        if self.seed_key is None and all(map(_is_own, runs)):
            return PARAMS + SEED
        return self.seed_key

    def _seeds(self, runs: Sequence[Recorded], notes: list[str]) -> list[str]:
        """The seed of each run as text, empty if unknown."""
        key = self._seed_key(runs)
        if key is None:
            found = [k for k in _keys(runs) if _last_word(k) in SEED_WORDS and _differs(k, runs)]
            hint = f"; type --seed-key {found[0]} if that is the seed" if found else ""
            notes.append(
                "without --seed-key no seeds can be paired: each run counts as a seed of its own, "
                f"and nothing is tested over seeds{hint}"
            )
            return [""] * len(runs)
        found = [_value(run, key) or "" for run in runs]
        seeds = ["" if seed in UNSEEDED else seed for seed in found]
        missing = seeds.count("")
        if missing == len(runs):
            keys = _keys(runs)
            raise ValueError(
                f"--seed-key {key}: no compared run has a seed there{expected(key, keys)}"
            )
        if missing:
            notes.append(f"{missing} run(s) have no seed in {key}; each counts as one of its own")
        return seeds

    def _settings(self, runs: Sequence[Recorded]) -> list[dict[str, str]]:
        """The settings of each run: the chosen params and tags, without the seed."""
        keys, seed = _keys(runs), self._seed_key(runs)
        chosen = dict.fromkeys(key for key in keys if key.startswith(PARAMS))
        if self.settings:
            found = [[key for key in keys if _matches(key, each)] for each in self.settings]
            for pattern, each in zip(self.settings, found, strict=True):
                if not each:
                    wrong = f"--setting {pattern}: no compared run has it"
                    raise ValueError(wrong + expected(pattern, keys))
            chosen = dict.fromkeys(key for each in found for key in each)
        elif all(map(_is_own, runs)):
            kept = (key for key in chosen if determines_result(key.removeprefix(PARAMS)))
            chosen = dict.fromkeys(kept)
        chosen.pop(seed or "", None)
        metrics = {each.metric.replace("/", "_") for each in (self.metric, self.test) if each}
        names = {key: _shown(key, RESERVED | metrics) for key in chosen}
        return [
            {name: value for key, name in names.items() if (value := _value(run, key)) is not None}
            for run in runs
        ]

    def _note_choice(self, notes: list[str]) -> None:
        if self.test is None:
            name = self.metric.metric
            notes.append(
                f"the best was chosen by the same numbers of {name} with which it is then tested, "
                "so its lead is overestimated and p is too small; rank by a validation metric, and "
                "name the one to test with --test-metric"
            )


def _parsed(option: str, text: str) -> NamedMetric:
    name, is_max = directed(text)
    if not name.strip():
        raise ValueError(f"{option} {text!r}: expected the name of a metric, or NAME:max")
    check_direction(text, option=f"{option} ")
    return NamedMetric(name, bool(is_max))


def _is_own(run: Recorded) -> bool:
    return OWN in run.tags


def _is_finite(value: float) -> bool:
    return math.isfinite(value) and abs(value) < HUGE


def _keys(runs: Iterable[Recorded]) -> list[str]:
    """The params and tags of runs, in order, params first."""
    every = list(runs)
    params = dict.fromkeys(PARAMS + key for run in every for key in run.params)
    tags = dict.fromkeys(TAGS + key for run in every for key in run.tags)
    return [*params, *tags]


def _value(run: Recorded, key: str) -> str | None:
    if key.startswith(PARAMS):
        return run.params.get(key.removeprefix(PARAMS))
    return run.tags.get(key.removeprefix(TAGS))


def _differs(key: str, runs: Iterable[Recorded]) -> bool:
    return len({_value(run, key) for run in runs}) > 1


def _matches(key: str, pattern: str) -> bool:
    return key == pattern or fnmatchcase(key, pattern)


def _shown(key: str, taken: set[str]) -> str:
    """A key as a table shows it: a param by its name, unless the name has another meaning."""
    name = key.removeprefix(PARAMS)
    return key if name in taken else name


def _last_word(key: str) -> str:
    return re.split(r"[./]", key)[-1].lower()


def expected(name: str, known: Iterable[str]) -> str:
    """The end of a message: the closest known names, else the first ones, and their number."""
    names = list(known)
    if not names:
        return ""
    close = get_close_matches(name, names, LISTED, 0.5)
    last = {each: key for key in names for each in (re.split(r"[./_]", key)[-1],)}
    close += [last[each] for each in (re.split(r"[./_]", name)[-1],) if each in last]
    shown = list(dict.fromkeys(close or names))[:LISTED]
    more = f" ({len(names)} in all)" if len(names) > len(shown) else ""
    return f"; expected one such as {', '.join(shown)}{more}"


def _seed_run(
    objective: NamedMetric, run: Recorded, seed: str, settings: dict[str, str], data: str
) -> SeedRun:
    curves, steps, key = {}, {}, objective.metric
    if key in run.curves:
        values = run.curves[key]
        curves[key] = np.where(np.abs(values) < HUGE, values, np.nan)
        steps[key] = run.epochs[key]
    kept = {key: value for key, value in run.final.items() if _is_finite(value)}
    return SeedRun(
        run=run.run,
        name=run.name,
        settings=settings | ({SEED: seed} if seed else {}),
        curves=curves,
        final=kept,
        data=data,
        code=run.tags.get("code.sha256", ""),
        objective=objective,
        steps=steps,
    )


def _data(
    runs: Sequence[Recorded], seeds: Sequence[str], notes: list[str], *, is_paired: bool
) -> list[str]:
    """The digests of the data sets that separate settings; empty if they follow from the seeds.

    A program that divides its data by the seed logs another data set for each seed.
    """
    digests = [run.tags.get("data.sha256", str(run.dataset.get("sha256", ""))) for run in runs]
    different = set(digests) - {""}
    by_seed: dict[str, set[str]] = defaultdict(set)
    for run, seed, digest in zip(runs, seeds, digests, strict=True):
        by_seed[seed or run.run] |= {digest} - {""}
    if len(different) < 2:
        return [""] * len(runs)
    if any(len(each) > 1 for each in by_seed.values()):
        return digests
    how = "each seed has its own, the same in every setting" if is_paired else "by their digests"
    notes.append(
        f"the runs logged {len(different)} different data sets ({how}); what differs between them "
        "is part of the spread"
    )
    return [""] * len(runs)


def _note_hidden(
    runs: Sequence[Recorded], settings: Sequence[dict[str, str]], seed: str | None,
    notes: list[str],
) -> None:  # fmt: skip
    """Note the params that differ within a setting, which `--setting` left out."""
    groups: dict[tuple[tuple[str, str], ...], list[Recorded]] = defaultdict(list)
    for run, values in zip(runs, settings, strict=True):
        groups[tuple(sorted(values.items()))].append(run)
    names = dict.fromkeys(key for run in runs for key in run.params if PARAMS + key != seed)
    hidden = [
        key
        for key in names
        if (not all(map(_is_own, runs)) or determines_result(key))
        and any(len({run.params.get(key) for run in group}) > 1 for group in groups.values())
    ]
    if hidden:
        notes.append(
            f"within a setting, runs also differ in {comparable.first(hidden, LISTED)}, which "
            "--setting leaves out"
        )


def _note_alone(
    runs: Sequence[Recorded], seeds: Sequence[str], settings: Sequence[dict[str, str]],
    notes: list[str],
) -> None:  # fmt: skip
    """Note the settings that differ in every run, which leaves one run per setting."""
    most = max(Counter(tuple(sorted(values.items())) for values in settings).values())
    if len(runs) < 3 or most > 1 or len(set(seeds)) < 2:
        return
    names = dict.fromkeys(key for values in settings for key in values)
    unique = [key for key in names if len({values.get(key) for values in settings}) == len(runs)]
    if unique:
        notes.append(
            f"each of the {len(runs)} runs is a setting of its own, because "
            f"{comparable.first(unique, LISTED)} differs in every run; choose the settings with "
            "--setting"
        )
