"""The HTTP server of the page and its JSON API: one process, on loopback.

    GET  /                 the page
    GET  /api/models       the available networks
    POST /api/predict      classify a picture; docs/recognizer.md describes it

Drawings are preprocessed as they arrive, and those that arrive together are classified in one
batch. Picture files are decoded in two threads, so that a large file does not block other requests.
A network is selected by its run id from a list: no part of a request is used as a path.
"""

import asyncio
import base64
import gc
import json
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harness.recognizer import picture
from harness.recognizer.guard import Guard
from harness.recognizer.library import Library
from harness.recognizer.preprocess import Preprocessed, preprocess
from harness.recognizer.recognizer import Answer, Recognizer

WEB = Path(__file__).parent / "web"
FILES = {"/": "index.html", "/app.js": "app.js", "/style.css": "style.css", "/icon.svg": "icon.svg"}
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
MAX_SIDE = 512  # pixels of a side, when a picture is sent as numbers
MAX_JSON = 1 << 20  # bytes
MAX_WAITING = 32  # pictures to decode; further ones are rejected
MAX_CACHED = 8  # networks in memory, beside the default


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
        self._decoders = ThreadPoolExecutor(2)
        self._decoding = 0
        self._waiting: list[tuple[Recognizer, Preprocessed, asyncio.Future[Answer]]] = []

    async def models(self) -> list[dict[str, Any]]:
        """The available networks."""
        return await asyncio.get_running_loop().run_in_executor(None, self._library.list_networks)

    async def recognizer(self, run: str | None) -> Recognizer:
        """The network of a run, by default the library's. Raises `RequestError`."""
        if not run or run == self._default.run_id:
            return self._default
        if run not in self._cache:
            if run not in {model["id"] for model in await self.models()}:
                raise RequestError(404, f"model {run[:80]!r}: no such run; see /api/models")
            loop = asyncio.get_running_loop()
            try:
                self._cache[run] = await loop.run_in_executor(None, self._library.load, run)
            except ValueError:
                raise RequestError(404, f"model {run}: its weights cannot be read") from None
            while len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(run)
        return self._cache[run]

    async def decode(self, content: bytes, shape: tuple[int, int]) -> Preprocessed:
        """Decode and preprocess a picture file in another thread. Raises `RequestError`."""
        if self._decoding >= MAX_WAITING:
            raise RequestError(503, "too many pictures at once; try again")
        self._decoding += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._decoders, lambda: preprocess(picture.decode(content), shape)
            )
        except ValueError as error:
            raise RequestError(400, str(error)) from None
        finally:
            self._decoding -= 1

    async def classify(self, network: Recognizer, preprocessed: Preprocessed) -> Answer:
        """Classify a picture, in one batch with all others that wait for the same network."""
        if preprocessed.image is None:
            return Answer(preprocessed)
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((network, preprocessed, future))
        return await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for network in {id(each): each for each, _, _ in waiting}.values():
            batch = [(input_, future) for each, input_, future in waiting if each is network]
            answers = network.classify([input_ for input_, _ in batch])
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.cancelled():
                    future.set_result(answer)


def app(library: Library, hosts: set[str]) -> Guard:
    """The ASGI application. hosts: accepted names in the Host header, without port."""
    service = Service(library)

    async def models(request: Request) -> Response:
        return _json({"default": library.default.run_id, "models": await service.models()})

    async def predict(request: Request) -> Response:
        try:
            network = await service.recognizer(request.query_params.get("model"))
            preprocessed = await _preprocessed(request, service, network.image_shape)
        except RequestError as error:
            return _json({"error": str(error)}, error.status)
        return _json(to_dict(await service.classify(network, preprocessed), network))

    routes = [Route("/api/predict", predict, methods=["POST"]), Route("/api/models", models)]
    routes += [Route(path, _file(name)) for path, name in FILES.items()]
    return Guard(Starlette(routes=routes), hosts, max_body=picture.MAX_BYTES)


def to_dict(answer: Answer, network: Recognizer) -> dict[str, Any]:
    """The JSON of an answer; docs/recognizer.md describes it."""
    p, image = answer.probabilities, answer.preprocessed.image
    return {
        "digit": answer.digit,
        "probability": round(answer.probability, 6),
        "unsure": answer.unsure,
        "problem": answer.preprocessed.problem,
        "probabilities": [] if p is None else [round(each, 6) for each in p.tolist()],
        "box": [round(side, 4) for side in answer.preprocessed.box],
        "seen": "" if image is None else base64.b64encode(image.tobytes()).decode(),
        "seen_shape": list(network.image_shape),
        "model": network.run_id,
    }


async def _preprocessed(request: Request, service: Service, shape: tuple[int, int]) -> Preprocessed:
    """The preprocessed picture of a request. Raises `RequestError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    content = await request.body()
    if kind in ("image/png", "image/jpeg"):
        return await service.decode(content, shape)
    try:
        if kind == "application/octet-stream":
            return preprocess(_gray(content, request), shape)
        if kind == "application/json":
            return preprocess(_pixels(content), shape)
    except RequestError:
        raise
    except ValueError as error:
        raise RequestError(400, str(error)) from None
    raise RequestError(
        415,
        "content-type: expected image/png, image/jpeg, application/json or "
        "application/octet-stream",
    )


def _gray(content: bytes, request: Request) -> NDArray[np.uint8]:
    """A picture sent as one byte per pixel, with its size in the query."""
    texts = request.query_params.get("width", ""), request.query_params.get("height", "")
    width, height = (int(t) if t.isdecimal() and len(t) < 5 else 0 for t in texts)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE) or len(content) != width * height:
        raise RequestError(
            400,
            f"expected width and height from 1 to {MAX_SIDE} in the query and one byte per "
            f"pixel, found {texts[0][:9]!r} x {texts[1][:9]!r} and {len(content):,} bytes",
        )
    return np.frombuffer(content, np.uint8).reshape(height, width)


def _pixels(content: bytes) -> NDArray[Any]:
    """A picture sent as JSON rows of gray values."""
    if len(content) > MAX_JSON:
        raise RequestError(
            413, f"expected at most {MAX_JSON:,} bytes of JSON, found {len(content):,}"
        )
    try:
        pixels = np.asarray(json.loads(content)["pixels"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RequestError(400, 'expected {"pixels": [[0, 255, ...], ...]}') from None
    if max(pixels.shape, default=0) > MAX_SIDE:
        raise RequestError(
            400, f"expected sides of at most {MAX_SIDE} pixels, found {pixels.shape}"
        )
    return pixels


def _file(name: str) -> Callable[[Request], Any]:
    """The endpoint that sends a file of the page."""
    content, kind = (WEB / name).read_bytes(), TYPES[Path(name).suffix]

    async def send(request: Request) -> Response:
        return Response(content, media_type=kind)

    return send


def _json(content: Any, status: int = 200) -> Response:
    text = json.dumps(content, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def run(application: Guard, host: str, port: int) -> None:
    """Serve until interrupted. Raises `OSError` if the port is taken."""
    import uvicorn

    # Objects loaded so far are permanent: keep the garbage collector from scanning them, which
    # would delay requests.
    gc.collect()
    gc.freeze()
    uvicorn.run(
        application,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
        limit_concurrency=400,
        ws="none",
        lifespan="off",
    )
