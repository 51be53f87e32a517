"""A metric of any program, by the name that the program gave it."""

import re
from dataclasses import dataclass
from typing import Optional

from harness.runfolder.objective import Objective

OF_EXAMPLES = ("error", "accuracy")


@dataclass(frozen=True)
class NamedMetric(Objective):
    """A metric under its own name; its last value counts in each run.

    is_share: whether all its values are in [0, 1]; such errors and accuracies are displayed in
    percent. other: the metric that is tested, if it is not the one that ranks.
    """

    is_share: bool = False
    other: Optional["NamedMetric"] = None

    @property
    def part(self) -> str:
        """`train` if its name says that it was measured on training examples."""
        return "train" if re.match(r"train(ing)?([^a-z]|$)", self.metric.lower()) else ""

    @property
    def name(self) -> str:
        """The whole name, which has no known part."""
        return self.metric

    @property
    def title(self) -> str:
        """The name, everywhere the same."""
        return self.metric

    @property
    def short_title(self) -> str:
        """The name."""
        return self.metric

    def heading(self, text: str) -> str:
        """The title unchanged: a name has one spelling."""
        return text

    @property
    def by_epoch(self) -> bool:
        """False: the last value counts, whatever epoch or step it was logged at."""
        return False

    @property
    def tested(self) -> "NamedMetric":
        """The metric whose differences are tested."""
        return self.other or self

    @property
    def is_tested_apart(self) -> bool:
        """Whether another metric is tested than the one that ranks."""
        return self.other is not None

    @property
    def test_key(self) -> str:
        """The name of the metric that is tested."""
        return self.tested.metric

    @property
    def test_title(self) -> str:
        """The name of the metric that is tested."""
        return self.tested.metric

    @property
    def is_fraction(self) -> bool:
        """Whether it is an error or an accuracy by its name, and all its values are in [0, 1]."""
        return self.is_share and super().is_fraction

    @property
    def counts_examples(self) -> bool:
        """Whether its name ends in the word `error` or `accuracy`, and it is a fraction."""
        return self.is_fraction and re.split(r"[^a-z0-9]+", self.metric)[-1] in OF_EXAMPLES
