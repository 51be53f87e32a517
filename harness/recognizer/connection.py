"""A connection that sends no whole request does not stay: uvicorn itself waits for ever."""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

IDLE_S = 10.0


def timed(**settings: Any) -> asyncio.Protocol:
    """uvicorn's protocol, closed when for IDLE_S to twice as long no request was under way."""
    protocol = AutoHTTPProtocol(**settings)
    _look(protocol, object())
    return protocol


def _look(protocol: Any, before: Any) -> None:
    # uvicorn makes a new cycle for every request, as soon as its head is complete.
    cycle, transport = protocol.cycle, protocol.transport
    if transport is not None and transport.is_closing():
        return
    if cycle is before and (cycle is None or cycle.response_complete):
        transport.close()
        return
    protocol.loop.call_later(IDLE_S, _look, protocol, cycle)
