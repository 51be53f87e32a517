"""Measure the latency and throughput of the page's server with many clients, on loopback.

    python tests/benchmarks/bench_serve.py [--outputs DIR] [--clients 50] [--seconds 10]

Each client sends drawings of 112 x 112 pixels, as the page does, one after the other: first 10 per
second, as while drawing, then as fast as it can. The clients run in a separate process. Latency is
the time from the first byte sent to the last received.
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import uvloop
from PIL import Image

from harness.data import dataset
from harness.runfolder import environment
from harness.training.threads import cores

SIDE = 112


def requests(outputs: Path, count: int = 200) -> list[bytes]:
    """HTTP requests with test digits, as the page sends them."""
    test = dataset.load("mnist", cache=outputs / "cache").test
    messages = []
    for row in test.inputs[:count]:
        drawing = Image.fromarray(row.reshape(28, 28)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        body = drawing.tobytes()
        head = (
            f"POST /api/predict?width={SIDE}&height={SIDE} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        messages.append(head.encode() + body)
    return messages


async def client(
    port: int, messages: list[bytes], until: float, pause: float, latencies: list[float]
) -> int:
    """Send until the time is over; returns the number of answers without a digit."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    failed, number = 0, int(np.random.default_rng().integers(len(messages)))
    await asyncio.sleep(pause * np.random.default_rng().random())
    while time.monotonic() < until:
        number += 1
        begin = time.perf_counter()
        writer.write(messages[number % len(messages)])
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        latencies.append(time.perf_counter() - begin)
        failed += not (head.startswith(b"HTTP/1.1 200") and json.loads(body)["digit"] is not None)
        if pause:
            await asyncio.sleep(max(0.0, pause - (time.perf_counter() - begin)))
    writer.close()
    return failed


def load(port: int, outputs: Path, clients: int, seconds: float, pause: float, answer) -> None:
    """Run all clients in this process; puts (latencies, failures) into the queue `answer`."""

    async def run_all() -> tuple[list[float], int]:
        messages, latencies = requests(outputs), []
        until = time.monotonic() + seconds
        tasks = [client(port, messages, until, pause, latencies) for _ in range(clients)]
        return latencies, sum(await asyncio.gather(*tasks))

    gc.disable()
    answer.put(uvloop.run(run_all()))


def measure(server: subprocess.Popen, port: int, arguments, pause: float) -> None:
    """Run the clients against the server and print one line."""
    process = psutil.Process(server.pid)
    answer = multiprocessing.Queue()
    work = (port, arguments.outputs, arguments.clients, arguments.seconds, pause, answer)
    used, begin = process.cpu_times(), time.perf_counter()
    clients = multiprocessing.Process(target=load, args=work)
    clients.start()
    latencies, failed = answer.get()
    clients.join()
    now, wall = process.cpu_times(), time.perf_counter() - begin
    busy = now.user + now.system - used.user - used.system
    p50, p99 = 1e3 * np.percentile(latencies, [50, 99])
    print(
        f"{arguments.clients} clients, {'10 a second each' if pause else 'as fast as they can':20}"
        f"{len(latencies) / arguments.seconds:8.0f} answers/s   p50 {p50:5.1f} ms   p99 {p99:5.1f} "
        f"ms   failed {failed}   {1e3 * busy / len(latencies):.2f} ms of one core each, so "
        f"{len(latencies) / busy:.0f} answers per core-second ({busy / wall:.0%} of a core)",
        flush=True,
    )


def main() -> None:
    """Start the server, measure it, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "harness", "serve", "--outputs", str(arguments.outputs)]
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        print(server.stdout.readline().strip())
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        load_before = psutil.getloadavg()[0]
        print(f"{environment.processor()}, {cores()} cores, load {load_before:.1f}")
        for pause in (0.1, 0.0):
            measure(server, port, arguments, pause)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
