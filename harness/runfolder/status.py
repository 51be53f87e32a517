"""The states a run can be in, and the exit statuses of the commands."""

from enum import IntEnum, StrEnum


class RunStatus(StrEnum):
    """The status of a run in its journal; the values are MLflow's if MLflow has such a status."""

    CREATED = "CREATED"
    """Frozen, never started. MLflow shows SCHEDULED."""
    RUNNING = "RUNNING"
    """Started without an end record; whether its process is alive is another question."""
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"
    DAMAGED = "DAMAGED"
    """A record of the journal cannot be read."""

    @property
    def mlflow(self) -> str:
        """The status MLflow shows for a delivered run."""
        return "SCHEDULED" if self is RunStatus.CREATED else self.value

    @classmethod
    def of_mlflow(cls, status: str) -> "RunStatus":
        """The status of a run that MLflow shows as `status`."""
        return cls.CREATED if status == "SCHEDULED" else cls(status)


class ExitStatus(IntEnum):
    """Exit statuses of every command."""

    DONE = 0
    """Everything was done and delivered."""
    FAILED = 1
    """A job failed, or a comparison of results found a difference."""
    BAD_INPUT = 2
    """Bad input: one line names it, and nothing was created."""
    UNDELIVERED = 3
    """Trained, but the tracking store does not have everything yet."""
    INTERRUPTED = 130
