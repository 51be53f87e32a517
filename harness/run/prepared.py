"""`Prepared`: a job with its run key, which depends on its data set and source code."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from harness.run.compose import Job
from harness.runfolder import config as configuration
from harness.runfolder import keys, own_code
from harness.runfolder.keys import Key
from harness.runfolder.own_code import Source


@dataclass(frozen=True)
class Prepared:
    """A job with its run key.

    dataset: the data set's part of the create record, in a preview, only its `sha256`. code: the
    user's source files.
    """

    job: Job
    key: str
    dataset: dict[str, object]
    code: Sequence[Source] = ()

    @property
    def data_digest(self) -> str:
        """The digest of the data set."""
        return str(self.dataset["sha256"])

    def full_key(self, also: Collection[str]) -> Key:
        """See `keys.full_key`."""
        return keys.full_key(self.key, configuration.leaves(self.job.config), also)


def keyed(jobs: Iterable[tuple[Job, dict[str, object]]]) -> list[Prepared]:
    """Each job, which comes with its `Prepared.dataset`, with its key. Raises `OwnCodeError`."""
    sources = cache(own_code.sources)
    prepared = []
    for job, dataset in jobs:
        code = sources(job.config.own_names)
        code_digest = own_code.digest(code) if code else ""
        key = keys.run_key(job.config, str(dataset["sha256"]), code_digest)
        prepared.append(Prepared(job, key, dataset, code))
    return prepared
