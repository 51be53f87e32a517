"""The page and its JSON API: one process, on loopback, that reads nothing but what it is sent.

    GET  /                 the page
    GET  /api/models       the networks there are
    POST /api/predict      the digit in a picture; `docs/recognizer.md` describes it

Drawings are prepared as they arrive, and the network then answers all that arrived together at
once. Pictures are decoded in two threads, so that a large one holds nobody up. A network is named
by the id of its run and looked up in a list: no part of a request is ever used as a path.
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

from harness.recognizer import picture, preprocess
from harness.recognizer.guard import Guard
from harness.recognizer.library import Library
from harness.recognizer.preprocess import Seen
from harness.recognizer.recognizer import Answer, Recognizer

WEB = Path(__file__).parent / "web"
FILES = {"/": "index.html", "/app.js": "app.js", "/style.css": "style.css", "/icon.svg": "icon.svg"}
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
MAX_SIDE = 512  # of pixels sent as numbers
MAX_JSON = 1 << 20
MAX_WAITING = 32  # pictures to decode; more are refused
KEPT = 8  # networks in memory


class Refusal(ValueError):
    """A request that cannot be answered, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Desk:
    """Answers requests; all of its own work happens in the event loop's one thread."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._default = library.default
        self._kept: OrderedDict[str, Recognizer] = OrderedDict()
        self._pool = ThreadPoolExecutor(2)
        self._decoding = 0
        self._waiting: list[tuple[Recognizer, Seen, asyncio.Future[Answer]]] = []

    async def models(self) -> list[dict[str, Any]]:
        """The networks there are."""
        return await asyncio.get_running_loop().run_in_executor(None, self._library.listing)

    async def recognizer(self, run: str | None) -> Recognizer:
        """The network of a run, from memory or from its folder. Raises `Refusal`."""
        if not run or run == self._default.description["run"]:
            return self._default
        if run not in self._kept:
            if run not in {each["id"] for each in await self.models()}:
                raise Refusal(404, f"model {run[:80]!r}: there is no such run; see /api/models")
            loop = asyncio.get_running_loop()
            try:
                self._kept[run] = await loop.run_in_executor(None, self._library.load, run)
            except ValueError:
                raise Refusal(404, f"model {run}: its weights cannot be read") from None
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(run)
        return self._kept[run]

    async def decode(self, content: bytes, shape: tuple[int, int]) -> Seen:
        """A picture file's digit, found in another thread. Raises `Refusal`."""
        if self._decoding >= MAX_WAITING:
            raise Refusal(503, "too many pictures at once; try again")
        self._decoding += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._pool, lambda: preprocess.find(picture.decode(content), shape)
            )
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        finally:
            self._decoding -= 1

    async def answer(self, asked: Recognizer, seen: Seen) -> Answer:
        """The network's answer, computed together with all others that wait by then."""
        if seen.image is None:
            return Answer(seen)
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        answered: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((asked, seen, answered))
        return await answered

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for asked in {id(each): each for each, _, _ in waiting}.values():
            mine = [(seen, future) for each, seen, future in waiting if each is asked]
            answers = asked.answer([seen for seen, _ in mine])
            for (_, future), answer in zip(mine, answers, strict=True):
                if not future.cancelled():
                    future.set_result(answer)


def app(library: Library, hosts: set[str]) -> Guard:
    """The application. hosts: the values of the Host header, without port, that it answers to."""
    desk = Desk(library)

    async def models(request: Request) -> Response:
        return _json({"default": library.default.description["run"], "models": await desk.models()})

    async def predict(request: Request) -> Response:
        try:
            asked = await desk.recognizer(request.query_params.get("model"))
            seen = await _seen(request, desk, asked.image_shape)
        except Refusal as refusal:
            return _json({"error": str(refusal)}, refusal.status)
        return _json(describe(await desk.answer(asked, seen), asked))

    routes = [Route("/api/predict", predict, methods=["POST"]), Route("/api/models", models)]
    routes += [Route(path, _file(name)) for path, name in FILES.items()]
    return Guard(Starlette(routes=routes), hosts, max_body=picture.MAX_BYTES)


def describe(answer: Answer, asked: Recognizer) -> dict[str, Any]:
    """The JSON of an answer: see docs/recognizer.md."""
    p, image = answer.probabilities, answer.seen.image
    return {
        "digit": answer.digit,
        "probability": round(answer.probability, 6),
        "unsure": answer.unsure,
        "problem": answer.seen.problem,
        "probabilities": [] if p is None else [round(each, 6) for each in p.tolist()],
        "box": [round(side, 4) for side in answer.seen.box],
        "seen": "" if image is None else base64.b64encode(image.tobytes()).decode(),
        "seen_shape": list(asked.image_shape),
        "model": asked.description["run"],
    }


async def _seen(request: Request, desk: Desk, shape: tuple[int, int]) -> Seen:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    content = await request.body()
    if kind in ("image/png", "image/jpeg"):
        return await desk.decode(content, shape)
    try:
        if kind == "application/octet-stream":
            return preprocess.find(_gray(content, request), shape)
        if kind == "application/json":
            return preprocess.find(_pixels(content), shape)
    except Refusal:
        raise
    except ValueError as error:
        raise Refusal(400, str(error)) from None
    raise Refusal(
        415,
        "content-type: expected image/png, image/jpeg, application/json or "
        "application/octet-stream",
    )


def _gray(content: bytes, request: Request) -> NDArray[np.uint8]:
    texts = request.query_params.get("width", ""), request.query_params.get("height", "")
    width, height = (int(t) if t.isdecimal() and len(t) < 5 else 0 for t in texts)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE) or len(content) != width * height:
        raise Refusal(
            400,
            f"expected width and height from 1 to {MAX_SIDE} in the address and as many bytes as "
            f"pixels, found {texts[0][:9]!r} x {texts[1][:9]!r} and {len(content):,} bytes",
        )
    return np.frombuffer(content, np.uint8).reshape(height, width)


def _pixels(content: bytes) -> NDArray[Any]:
    if len(content) > MAX_JSON:
        raise Refusal(413, f"expected at most {MAX_JSON:,} bytes of JSON, found {len(content):,}")
    try:
        pixels = np.asarray(json.loads(content)["pixels"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Refusal(400, 'expected {"pixels": [[0, 255, ...], ...]}') from None
    if max(pixels.shape, default=0) > MAX_SIDE:
        raise Refusal(400, f"expected sides of at most {MAX_SIDE} pixels, found {pixels.shape}")
    return pixels


def _file(name: str) -> Callable[[Request], Any]:
    content, kind = (WEB / name).read_bytes(), TYPES[Path(name).suffix]

    async def send(request: Request) -> Response:
        return Response(content, media_type=kind)

    return send


def _json(content: Any, status: int = 200) -> Response:
    text = json.dumps(content, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def serve(application: Guard, host: str, port: int) -> None:
    """Serve until interrupted. Raises `OSError` when the port is taken."""
    import uvicorn

    from harness.recognizer.connection import timed

    # What is loaded by now stays: a collector that looks through it holds everybody up.
    gc.collect()
    gc.freeze()
    uvicorn.run(
        application,
        host=host,
        port=port,
        http=timed,  # type: ignore[arg-type]  # uvicorn calls it as it would the class
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
        limit_concurrency=400,
        ws="none",
        lifespan="off",
    )
