"""The server's work for a request: load networks, decode pictures, classify them in batches."""

import asyncio
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from harness.recognizer.decoding import Decoder
from harness.recognizer.library import Library
from harness.recognizer.preprocess import Preprocessed, prepare
from harness.recognizer.recognizer import Answer, Recognizer

MAX_DECODERS = 2
MAX_WAITING = 32  # pictures to decode; further ones are rejected
MAX_LOADING = 4  # lists and networks at once
MAX_CACHED = 8  # networks in memory, beside the default
Result = TypeVar("Result")


class RequestError(ValueError):
    """A request that cannot be answered, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """Loads networks, decodes pictures, and classifies those that wait in one batch.

    Apart from loading and decoding, all work happens in the thread of the event loop.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._default = library.default
        self._cache: OrderedDict[str, Recognizer] = OrderedDict()  # least recently used first
        self._loading = asyncio.Semaphore(MAX_LOADING)
        self._threads = ThreadPoolExecutor(MAX_DECODERS)
        self._decoders = [Decoder() for _ in range(MAX_DECODERS)]
        self._free = list(self._decoders)  # one for each thread, so never empty in one
        self._decoding = 0
        self._waiting: list[tuple[Recognizer, Preprocessed, asyncio.Future[Answer]]] = []

    def close(self) -> None:
        """End what is being decoded, so that no thread delays the end of the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for decoder in self._decoders:
            decoder.close()

    async def models(self) -> list[dict[str, Any]]:
        """The available networks."""
        async with self._loading:
            return await in_thread(self._library.list_networks)

    async def recognizer(self, run: str | None) -> Recognizer:
        """The network of a run, by default the library's. Raises `RequestError`."""
        if not run or run == self._default.run_id:
            return self._default
        if run not in self._cache:
            if run not in {model["id"] for model in await self.models()}:
                raise RequestError(404, f"model {run[:80]!r}: no such run; see /api/models")
            try:
                async with self._loading:
                    loaded = await in_thread(lambda: self._library.load(run))
            except ValueError as error:
                print(error, file=sys.stderr, flush=True)
                raise RequestError(404, f"model {run}: its weights cannot be used") from None
            self._cache[run] = loaded
            while len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(run)
        return self._cache[run]

    async def decode(self, content: bytes, shape: tuple[int, ...]) -> Preprocessed:
        """Decode and preprocess a picture file in another thread. Raises `RequestError`."""
        if self._decoding >= MAX_WAITING:
            raise RequestError(503, "too many pictures at once; try again")
        self._decoding += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._decode, content, shape)
        except ValueError as error:
            raise RequestError(400, str(error)) from None
        except OSError as error:
            raise RequestError(503, str(error)) from None
        finally:
            self._decoding -= 1

    def _decode(self, content: bytes, shape: tuple[int, ...]) -> Preprocessed:
        decoder = self._free.pop()
        try:
            pixels = decoder.decode(content, color=len(shape) == 3)
        finally:
            self._free.append(decoder)
        return prepare(pixels, shape)

    async def classify(self, network: Recognizer, preprocessed: Preprocessed) -> Answer:
        """Classify a picture, in one batch with all others that wait for the same network.

        Raises `RequestError` if the network cannot.
        """
        if preprocessed.image is None:
            return Answer(preprocessed)
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((network, preprocessed, future))
        try:
            return await future
        except ValueError as error:
            raise RequestError(500, str(error)) from None

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for network in {id(each): each for each, _, _ in waiting}.values():
            batch = [(input_, future) for each, input_, future in waiting if each is network]
            futures = [future for _, future in batch if not future.cancelled()]
            try:
                answers = network.classify([input_ for input_, _ in batch])
            except Exception as error:  # any error: every waiting request must get an answer
                for future in futures:
                    future.set_exception(ValueError(f"run {network.run_id}: {error}"))
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.cancelled():
                    future.set_result(answer)


async def in_thread(work: Callable[[], Result]) -> Result:
    """The result of `work`, which runs in a daemon thread.

    Reading from a server that never answers does not delay the end of the process then. The threads
    of `asyncio.to_thread` would.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def finish(set_: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_(value)

    def run() -> None:
        with suppress(RuntimeError):  # the event loop has ended
            try:
                result = work()
            except Exception as error:
                loop.call_soon_threadsafe(finish, future.set_exception, error)
            else:
                loop.call_soon_threadsafe(finish, future.set_result, result)

    # With the folders of --config-dir, in which modules are found.
    threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
    return await future
