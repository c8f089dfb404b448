"""A recorded answer through its dialect, without any client."""

from __future__ import annotations

from genai_meter.dialects import Dialect, Reading, RequestView
from genai_meter.usage import Usage

from tests.traffic.recordings import Exchange, fields


def read_exchange(dialect: Dialect, exchange: Exchange) -> tuple[RequestView, Reading, list[Usage]]:
    """Request, answer and usage of an exchange as plain JSON."""
    request = dialect.request(fields(exchange.request))
    reading = Reading()
    if exchange.status < 400:
        if exchange.streaming:
            for event in exchange.events():
                dialect.chunk(reading, event)
        elif exchange.framing == "json":
            dialect.response(reading, exchange.json())
        dialect.headers(reading, exchange.headers)
    return request, reading, dialect.usages(reading, request)
