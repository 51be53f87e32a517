"""Any order, repetition or interruption of a delivery gives the same rows."""

import itertools
import json
import uuid
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.data.atomic import write_text
from harness.runfolder import delivered, journal
from harness.runfolder.run import Run
from harness.tracking.delivery import Delivery
from harness.tracking.follower import points_of
from harness.tracking.store import Store
from harness.tracking.sync import prove
from tests.tracking.conftest import expected_points, make_run

pytestmark = [pytest.mark.service, pytest.mark.filterwarnings("ignore")]

# What may happen to a delivery before it continues.
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver up to"), st.floats(0, 1)),
        st.tuples(st.just("forget how far it came"), st.floats(0, 1)),
        st.tuples(st.just("lose the state"), st.just(0.0)),
        st.tuples(st.just("send rows out of order"), st.randoms(use_true_random=False)),
    ),
    max_size=6,
)


@settings(max_examples=40, deadline=None, database=None)
@given(events=EVENTS, epochs=st.integers(1, 6))
@example(
    events=[("deliver up to", 1.0), ("forget how far it came", 0.0), ("deliver up to", 0.0)],
    epochs=1,
)
def test_any_history_of_a_delivery_gives_the_same_rows(
    outputs: Path, store: Store, events: list[tuple[str, object]], epochs: int
) -> None:
    run = uuid.uuid4().hex
    folder = make_run(outputs, run, epochs=epochs)
    path = folder / journal.FILE_NAME
    content = path.read_bytes()
    ends = [0, *itertools.accumulate(len(line) for line in content.splitlines(keepends=True))]

    def deliver() -> None:
        delivery = Delivery(store.target, store)
        delivery.follow(Run(folder))
        assert delivery.drain(5).undelivered == {}

    for event, extent in events:
        state = delivered.read(folder)
        if event == "deliver up to":
            path.write_bytes(content[: max(int(extent * len(content)), state.get("offset", 0))])
            deliver()
        elif event == "forget how far it came" and state:
            earlier = [end for end in ends if end <= extent * state["offset"]]
            write_text(folder / delivered.FILE_NAME, json.dumps(state | {"offset": earlier[-1]}))
        elif event == "lose the state":
            (folder / delivered.FILE_NAME).unlink(missing_ok=True)
        elif event == "send rows out of order" and state.get("mlflow_id"):
            points = points_of(journal.read(path)[0])
            rows = [(key, row) for key, rows in points.items() for row in rows] * 2
            extent.shuffle(rows)
            for key, row in rows[: len(rows) * 2 // 3]:
                store.log(state["mlflow_id"], {key: [row]})
    path.write_bytes(content)
    deliver()
    assert len(store.runs([store.experiment("mnist")], f"tags.`run.id` = '{run}'")) == 1
    assert store.points(delivered.read(folder)["mlflow_id"]) == expected_points(folder)
    (proof,) = prove(store.target, [Run(folder)])
    assert proof.differences == ()
    assert proof.rows == sum(len(points) for points in expected_points(folder).values())
