"""Threads work together while that is faster than one of them alone."""

from harness.training.pace import MOST, PERIOD, RARELY, Pace

EXAMPLES = 1000


class Threads:
    is_alone = False


class Machine:
    """A training on a machine, by blocks. together, alone: the seconds of one."""

    def __init__(self) -> None:
        self.workers = Threads(), Threads()
        self.pace = Pace(self.workers)

    def train(self, blocks: int, *, together: float, alone: float) -> float:
        """The share of the blocks that one thread trained alone."""
        seen = 0
        for _ in range(blocks):
            is_alone, other = (each.is_alone for each in self.workers)
            assert is_alone == other
            seen += is_alone
            self.pace.took(alone if is_alone else together, EXAMPLES)
        return seen / blocks


def test_on_a_quiet_machine_threads_are_together() -> None:
    machine = Machine()
    assert not machine.workers[0].is_alone
    assert 0 < machine.train(10 * RARELY, together=0.6, alone=1) <= 1 / RARELY


def test_on_a_busy_machine_one_is_alone() -> None:
    machine = Machine()
    assert machine.train(20 * PERIOD * MOST, together=3, alone=1) > 0.95


def test_they_are_together_again_when_the_machine_is_quiet() -> None:
    machine = Machine()
    machine.train(20 * PERIOD * MOST, together=3, alone=1)
    machine.train(PERIOD * (MOST + 1), together=0.6, alone=1)
    assert machine.train(5 * RARELY, together=0.6, alone=1) <= 1.1 / RARELY


def test_what_counts_is_how_fast_one_thread_is_now() -> None:
    """Both are slower on a busy machine; threads together may still be faster."""
    machine = Machine()
    machine.train(RARELY, together=0.6, alone=1)
    assert machine.train(RARELY, together=1.5, alone=2) < 0.1


def test_a_small_last_block_does_not_count_as_a_slow_one() -> None:
    machine = Machine()
    for _ in range(5 * RARELY):
        machine.train(3, together=0.6, alone=1)
        machine.pace.took(0.02, 1)
    assert machine.train(RARELY, together=0.6, alone=1) < 0.02


def test_without_other_threads_nothing_happens() -> None:
    pace = Pace([])
    for _ in range(RARELY):
        pace.took(1.0, EXAMPLES)
