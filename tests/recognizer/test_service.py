"""Loading, decoding and batching, without a server: what fails is an answer, at once."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.recognizer.library import Library
from harness.recognizer.preprocess import preprocess
from harness.recognizer.recognizer import Recognizer
from harness.recognizer.service import RequestError, Service, in_thread
from harness.runfolder import own_code
from tests.recognizer.conftest import copy_run
from tests.recognizer.test_decoding import PNG, slow
from tests.recognizer.test_picture import DRAWING
from tests.recognizer.test_recognizer import DESCRIPTION, small


@pytest.fixture
def service(tmp_path: Path, run_folder: Path, trained: Recognizer) -> Iterator[Service]:
    """A service with the trained network, a copy, and one whose weights are not weights."""
    for run_id in ("copy", "bad"):
        copy_run(run_folder, tmp_path, run_id)
    (tmp_path / "runs/bad/weights/best.safetensors").write_bytes(b"no weights")
    service = Service(Library(tmp_path, trained))
    yield service
    service.close()


def test_bad_weights_affect_no_other_network(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask() -> None:
        with pytest.raises(RequestError, match="model bad: its weights cannot be used"):
            await service.recognizer("bad")
        with pytest.raises(RequestError, match="no such run"):
            await service.recognizer("none")
        assert (await service.recognizer("copy")).run_id == "copy"

    asyncio.run(ask())
    (line,) = capsys.readouterr().err.splitlines()
    assert "best.safetensors" in line


def test_a_network_that_fails_answers_at_once(service: Service, trained: Recognizer) -> None:
    _, arrays = small()
    large = {name: np.full_like(array, 3e38) for name, array in arrays.items()}
    failing = Recognizer(large, DESCRIPTION)
    drawing = preprocess(DRAWING)

    async def ask() -> None:
        bad = [service.classify(failing, preprocess(DRAWING, (2, 3))) for _ in range(3)]
        good = [service.classify(trained, drawing) for _ in range(3)]
        answers = await asyncio.gather(*bad, *good, return_exceptions=True)
        assert [getattr(answer, "status", None) for answer in answers] == [500] * 3 + [None] * 3
        (expected,) = trained.classify([drawing])
        assert {answer.digit for answer in answers[3:]} == {expected.digit}

    begin = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - begin < 5


def test_a_decoder_that_the_system_ends_is_not_the_fault_of_the_picture(service: Service) -> None:
    async def ask() -> None:
        os.kill(service._free[-1]._process.pid, signal.SIGKILL)
        with pytest.raises(RequestError, match="try again") as caught:
            await service.decode(PNG, (28, 28))
        assert caught.value.status == 503
        assert (await service.decode(PNG, (28, 28))).image is not None

    asyncio.run(ask())


def test_closing_ends_what_is_being_decoded(service: Service) -> None:
    async def ask() -> None:
        pending = [asyncio.ensure_future(service.decode(slow(), (28, 28))) for _ in range(6)]
        await asyncio.sleep(0.3)
        service.close()
        done = await asyncio.gather(*pending, return_exceptions=True)
        assert all(isinstance(each, RequestError | asyncio.CancelledError) for each in done)

    begin = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - begin < 4


def test_a_picture_is_decoded_while_another_takes_long(service: Service) -> None:
    async def ask() -> None:
        hostile = asyncio.ensure_future(service.decode(slow(), (28, 28)))
        await asyncio.sleep(0.1)
        preprocessed = await service.decode(PNG, (28, 28))
        assert np.array_equal(preprocessed.image, preprocess(DRAWING).image)
        assert not hostile.done()
        service.close()
        with pytest.raises(RequestError, match="closed"):
            await hostile

    asyncio.run(ask())


def test_a_thread_that_hangs_does_not_delay_the_end() -> None:
    release = threading.Event()

    async def ask() -> None:
        assert await in_thread(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(release.wait), 0.1)

    begin = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - begin < 5
    release.set()


def test_work_in_another_thread_finds_modules_in_the_same_folders(tmp_path: Path) -> None:
    async def found() -> tuple[Path, ...]:
        return await in_thread(own_code.folders)

    with own_code.searching([tmp_path]):
        assert asyncio.run(found()) == (tmp_path.resolve(),)
