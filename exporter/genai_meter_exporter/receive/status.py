"""The third port: `/metrics`, `/healthz`, `/readyz`."""

from __future__ import annotations

import asyncio
from typing import Final

from genai_meter_exporter.metrics import Exposition
from genai_meter_exporter.pipeline import Pipeline
from genai_meter_exporter.receive.http import Receive, Scope, Send, answer

_TEXT: Final = b"text/plain; charset=utf-8"


class StatusHttp:
    """The application."""

    def __init__(self, pipeline: Pipeline, exposition: Exposition) -> None:
        self._pipeline = pipeline
        self._exposition = exposition

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            await answer(send, 405, _TEXT, b"read only\n")
        elif path == "/metrics":
            await self._metrics(scope, send)
        elif path == "/healthz":
            await answer(send, 200, _TEXT, b"ok\n")
        elif path == "/readyz":
            reason = await self._pipeline.ready()
            await answer(send, 503 if reason else 200, _TEXT, f"{reason or 'ready'}\n".encode())
        else:
            await answer(send, 404, _TEXT, b"see /metrics, /healthz, /readyz\n")

    async def _metrics(self, scope: Scope, send: Send) -> None:
        accept = b", ".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        # In a thread: the snapshot waits for a commit that is under way, and ten thousand series take a while.
        body, content_type = await asyncio.to_thread(self._scrape, accept)
        await answer(send, 200, content_type.encode(), body)

    def _scrape(self, accept: str) -> tuple[bytes, str]:
        rendered = self._exposition.render(accept)
        self._pipeline.record_shown()
        return rendered
