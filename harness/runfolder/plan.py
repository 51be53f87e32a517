"""A sweep on disk, `outputs/sweeps/<id>.json`: its jobs and the command that started it."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness.data.atomic import revalidate, write_text
from harness.runfolder.about import About
from harness.runfolder.folder import Ambiguous, alone, named, open_run
from harness.runfolder.hint import hint
from harness.runfolder.run import Run

# As typed.
SEARCH, RACE, SLURM = "hydra/sweeper=optuna", "until=", "hydra/launcher=slurm"
DECIDED = "decided after"  # start of the verdict of until=decided if one setting is left
NO_SEED, ENDED = "allows no further seed", "ended the search"  # a verdict's words for a limit
AFTERWARDS = (
    "Seeds were added by results: p values of tests with a fixed number of seeds are too small"
)


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep: its run id, its name, and the swept keys with their values as typed.

    other_source: what is known about the source that trained the run, if the command accepted a
    run from other source than its own; empty otherwise.
    """

    run: str
    name: str
    swept: dict[str, str]
    key: str
    other_source: str = ""


@dataclass(frozen=True)
class Plan:
    """A sweep. overrides: the command's arguments; jobs: in the command's order.

    replaced: ids of runs that belonged to the sweep until others took their places. about: its
    name, note and question. verdict: what a sweep with `until=decided` decided; empty before that
    and for other sweeps. is_archived: whether it was archived. costs: what its settings are
    compared by besides the objective, as typed. config_dir: the folder of `--config-dir` if it is a
    search, else empty. ended: with a verdict, the runs of the settings that cannot be the best.
    """

    id: str
    overrides: tuple[str, ...]
    jobs: tuple[SweepJob, ...]
    replaced: tuple[str, ...] = ()
    about: About = About()
    verdict: str = ""
    is_archived: bool = False
    costs: tuple[str, ...] = ()
    config_dir: str = ""
    ended: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its id, and its name if it has one."""
        return f"{self.id} ({self.about.name})" if self.about.name else self.id

    @property
    def names(self) -> dict[str, str]:
        """Run id -> name of the job; the run can have another name from an earlier command."""
        return {job.run: job.name for job in self.jobs}

    @property
    def is_search(self) -> bool:
        """Whether it is a search; its jobs are its trials."""
        return self._has(SEARCH)

    @property
    def is_raced(self) -> bool:
        """Whether results decide how many seeds each setting gets.

        In a search with several objectives, every setting gets all seeds.
        """
        return (self.is_search and not self.costs) or self._has(RACE)

    @property
    def is_on_slurm(self) -> bool:
        """Whether its jobs are trained by Slurm."""
        return self._has(SLURM)

    def _has(self, typed: str) -> bool:
        """Whether an override starts with this text, with or without Hydra's quotes."""
        plain = (word.replace("'", "").replace('"', "") for word in self.overrides)
        return any(word.lstrip("+").startswith(typed) for word in plain)

    @property
    def is_limited(self) -> bool:
        """Whether a limit ended it before it had all its jobs."""
        return NO_SEED in self.verdict or ENDED in self.verdict

    def save(self, outputs: Path, saved_ns: int | None = None) -> None:
        """Write the plan atomically with the time, by which plans are ordered.

        The time is later than that of every other plan, even if the clock was set back. saved_ns:
        the earlier time of a plan that keeps its place in the order.
        """
        if saved_ns is None:
            newest = max((each for each, _ in saved_plans(outputs)), default=0)
            saved_ns = max(time.time_ns(), newest + 1)
        content = asdict(self) | {"saved_ns": saved_ns}
        sweeps_folder(outputs).mkdir(parents=True, exist_ok=True)
        text = json.dumps(content | {"sha256": _digest(content)}, indent=1)
        write_text(sweeps_folder(outputs) / f"{self.id}.json", text)

    def runs(self, outputs: Path) -> list[Run]:
        """The runs of the jobs, in order, with the jobs' names; some may be removed since."""
        return [open_run(outputs, job.run, job.name) for job in self.jobs]

    def replaced_runs(self, outputs: Path) -> list[Run]:
        """The replaced runs that still exist."""
        runs = (open_run(outputs, each) for each in self.replaced)
        return [run for run in runs if run.is_readable()]

    def readable_runs(self, outputs: Path) -> list[Run]:
        """The runs of the jobs that have a readable create record, in order."""
        return [run for run in self.runs(outputs) if run.is_readable()]


def change(outputs: Path, sweep_id: str, to: Callable[[Plan], Plan]) -> Plan:
    """Change a plan, which keeps its place in the order; return the new plan.

    A lock lets one command at a time do this, so changes of other commands are kept. Raises
    `ValueError` if the plan is gone.
    """
    with alone(outputs):
        saved_ns, plan = _saved(outputs, sweep_id)
        plan = to(plan)
        plan.save(outputs, saved_ns)
    return plan


def sweeps_folder(outputs: Path) -> Path:
    """The folder that holds the plans."""
    return outputs / "sweeps"


def load_plan(outputs: Path, sweep_id: str) -> Plan:
    """Read a plan. Raises `ValueError` if there is none with this id or it is damaged."""
    return _saved(outputs, sweep_id)[1]


def _saved(outputs: Path, sweep_id: str) -> tuple[int, Plan]:
    path = sweeps_folder(outputs) / f"{sweep_id}.json"
    revalidate(path)
    if not path.is_file():
        raise ValueError(
            f"sweep {sweep_id!r} is not in {path.parent}; "
            f"`{hint('status', outputs=outputs)}` lists what is there"
        )
    return _read(path)


def find_plan(outputs: Path, prefix: str) -> Plan:
    """The plan of the sweep whose id starts with `prefix`.

    Raises `ValueError` for no match or a damaged plan, `Ambiguous` for several matches.
    """
    ids = sorted(path.stem for path in sweeps_folder(outputs).glob("*.json"))
    matches = [each for each in ids if prefix and each.startswith(prefix)]
    if len(matches) > 1 and prefix not in matches:
        raise Ambiguous(f"sweep {prefix!r} could be {named(matches)}; type more of it")
    return load_plan(outputs, prefix if len(matches) != 1 else matches[0])


def all_plans(outputs: Path) -> list[Plan]:
    """All plans, in the order in which they were saved. (Copying can change the files' times.)

    A warning names each damaged plan.
    """
    return [
        plan for _, plan in sorted(saved_plans(outputs), key=lambda each: (each[0], each[1].id))
    ]


def saved_plans(outputs: Path) -> Iterator[tuple[int, Plan]]:
    """Every plan that can be read, with the time when it was saved, in ns."""
    for path in sweeps_folder(outputs).glob("*.json"):
        try:
            yield _read(path)
        except ValueError as error:
            logging.getLogger(__name__).warning("%s", error)


def _read(path: Path) -> tuple[int, Plan]:
    """A plan and the time when it was saved, in ns. Raises `ValueError` naming the file."""
    try:
        content = json.loads(path.read_text())
        saved_ns = content.get("saved_ns", path.stat().st_mtime_ns)
        if content.pop("sha256", None) not in (None, _digest(content)):
            raise ValueError("it does not match its SHA-256")
        known = {field.name for field in fields(SweepJob)}  # a newer version may have more
        jobs = tuple(
            SweepJob(**{key: value for key, value in job.items() if key in known})
            for job in content["jobs"]
        )
        replaced = tuple(map(str, content.get("replaced", ())))
        about = {field.name: content["about"][field.name] for field in fields(About)
                 if field.name in content.get("about", {})}  # fmt: skip
        overrides, verdict = tuple(content["overrides"]), str(content.get("verdict", ""))
        is_archived = content.get("is_archived") is True
        costs = tuple(map(str, content.get("costs", ())))
        config_dir = str(content.get("config_dir", ""))
        ended = tuple(map(str, content.get("ended", ())))
        plan = Plan(
            content["id"], overrides, jobs, replaced, About(**about), verdict, is_archived, costs,
            config_dir, ended,
        )  # fmt: skip
        return int(saved_ns), plan
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not the plan of a sweep ({error}); remove it: the sweep's runs are intact, "
            "and repeating its command writes it again"
        ) from error


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
