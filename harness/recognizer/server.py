"""The HTTP server of the page and its JSON API: one process, on loopback.

    GET  /                 the page
    GET  /api/models       the available networks
    POST /api/predict      classify a picture; docs/recognizer.md describes it

Drawings are preprocessed as they arrive, and those that arrive together are classified in one
batch. Picture files are decoded in two other processes, so that no file blocks other requests for
long. A network is selected by its run id from a list: no part of a request is used as a path.
"""

import base64
import errno
import gc
import html
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from harness.recognizer import picture
from harness.recognizer.guard import Guard, Hosts
from harness.recognizer.library import Library
from harness.recognizer.preprocess import Preprocessed, prepare
from harness.recognizer.recognizer import Answer, Recognizer
from harness.recognizer.service import RequestError, Service

WEB = Path(__file__).parent / "web"
PAGE = (WEB / "index.html").read_text(encoding="utf-8")
FILES = ("app.js", "style.css", "icon.svg")
TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
MAX_SIDE = 512  # pixels of a side, when a picture is sent as numbers
MAX_JSON = 1 << 20  # bytes


def app(service: Service, default: str, hosts: Hosts) -> Guard:
    """The ASGI application. default: the run id of the network that classifies by default."""

    async def page(request: Request) -> Response:
        title = html.escape((await service.recognizer(default)).title)
        return Response(PAGE.replace("{title}", title), media_type="text/html")

    async def models(request: Request) -> Response:
        network = await service.recognizer(default)
        about = {"default": default, "classes": network.class_names, "title": network.title}
        return _json(about | {"models": await service.models()})

    async def predict(request: Request) -> Response:
        try:
            network = await service.recognizer(request.query_params.get("model"))
            preprocessed = await _preprocessed(request, service, _shape(network))
            answer = await service.classify(network, preprocessed)
        except RequestError as error:
            return _json({"error": str(error)}, error.status)
        return _json(to_dict(answer, network))

    routes = [Route("/api/predict", predict, methods=["POST"]), Route("/api/models", models)]
    routes += [Route("/", page), *(Route(f"/{name}", _file(name)) for name in FILES)]
    return Guard(Router(routes), hosts, max_body=picture.MAX_BYTES)


def to_dict(answer: Answer, network: Recognizer) -> dict[str, Any]:
    """The JSON of an answer; docs/recognizer.md describes it."""
    p, image = answer.probabilities, answer.preprocessed.image
    return {
        "digit": answer.digit,
        "class": answer.name,
        "probability": round(answer.probability, 6),
        "unsure": answer.unsure,
        "problem": answer.preprocessed.problem,
        "probabilities": [] if p is None else [round(each, 6) for each in p.tolist()],
        "classes": network.class_names,
        "title": network.title,
        "box": [round(side, 4) for side in answer.preprocessed.box],
        "seen": "" if image is None else base64.b64encode(image.tobytes()).decode(),
        "seen_shape": list(network.input_shape),
        "model": network.run_id,
    }


def _shape(network: Recognizer) -> tuple[int, ...]:
    """The shape of a network's pictures. Raises `RequestError` for a network of other data."""
    try:
        return network.picture_shape
    except ValueError as error:
        raise RequestError(404, str(error)) from None


async def _preprocessed(request: Request, service: Service, shape: tuple[int, ...]) -> Preprocessed:
    """The preprocessed picture of a request. Raises `RequestError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    content = await request.body()
    if kind.startswith("image/"):
        return await service.decode(content, shape)
    try:
        if kind == "application/octet-stream":
            return prepare(_gray(content, request), shape)
        if kind == "application/json":
            return prepare(_pixels(content), shape)
    except RequestError:
        raise
    except ValueError as error:
        raise RequestError(400, str(error)) from None
    raise RequestError(
        415,
        "content-type: expected that of a picture, such as image/png, application/json or "
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


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address or a name; port 0 is any free port.

    Raises `ValueError` if that is impossible.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f"--port {port}: already in use; choose another port") from error
        why = error.strerror or error
        raise ValueError(f"cannot listen at --host {host} --port {port}: {why}") from error
    except ValueError as error:  # no name can be like this
        raise ValueError(f"--host {host[:80]!r}: expected an address or a name") from error


def run(library: Library, listener: socket.socket, hosts: Hosts) -> None:
    """Serve until interrupted."""
    import uvicorn

    service = Service(library)
    config = uvicorn.Config(
        app(service, library.default.run_id, hosts),
        log_level="critical",  # the guard says what failed, in one line
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
        limit_concurrency=400,
        ws="none",
        lifespan="off",
    )
    # Objects loaded so far are permanent: keep the garbage collector from scanning them, which
    # would delay requests.
    gc.collect()
    gc.freeze()
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        service.close()
