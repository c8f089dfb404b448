"""`genai-meter serve`: one asyncio loop with three listeners, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvicorn

from genai_meter_exporter import alerting
from genai_meter_exporter.attribution_map import AttributionMap
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.budgets.history import History
from genai_meter_exporter.charging import open_prices
from genai_meter_exporter.config import Config, ConfigError, kept_days, written_path
from genai_meter_exporter.counters import Counters
from genai_meter_exporter.metrics import Exposition, LiveFacts, MeterCollector
from genai_meter_exporter.pipeline import Pipeline
from genai_meter_exporter.receive import grpc as otlp_grpc
from genai_meter_exporter.receive.http import OtlpHttp
from genai_meter_exporter.receive.status import StatusHttp
from genai_meter_exporter.store import open_readonly, open_store

logger: Final = logging.getLogger("genai_meter_exporter")


GC_THRESHOLDS: Final = (50_000, 20, 50)


class ListenError(Exception):
    """A port cannot be had; the message says which and what to do."""


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: one place decides when all listeners stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield


class Exporter:
    """The process, put together."""

    def __init__(self, config: Config, data_directory: Path, overlay: Path | None = None) -> None:
        self._config = config
        self.store_path = config.store.url or data_directory / config.store.path
        labels, limits = config.labels, config.limits
        self._facts = LiveFacts()
        self._facts.book_id, self._facts.book_time = open_prices(overlay)
        bounds = Bounds(labels.limits, labels.limit, labels.series_per_family)
        counters = Counters(config.metrics.scrape_interval_seconds)
        store = open_store(written_path(config, str(data_directory)), bounds, config)
        self.budgets = Engine(config.budgets, History(data_directory))
        self.pipeline = Pipeline(
            store,
            counters,
            bounds,
            self._facts,
            queue_requests=limits.queue_requests,
            queue_bytes=limits.queue_bytes,
            group_records=limits.group_records,
            retention_days=kept_days(config),
            attribution=AttributionMap(config.attribution.rules),
            budgets=self.budgets,
            read=partial(open_readonly, self.store_path),
            shared=config.store.url is not None,
        )
        others = (partial(alerting.collect, config.alerts),)
        self._exposition = Exposition(MeterCollector(counters, bounds, self._facts, self.budgets, others))
        self.addresses: dict[str, str] = {}
        """Listener → where it listens, once it does."""

    async def serve(self, started: Callable[[], None], read_again: Callable[[], Config] | None = None) -> None:
        """Listen until told to stop; then finish what is under way, commit it, answer it. Calls `started` once.

        On SIGHUP the rules of attribution are taken from what `read_again` gives; the rest needs a new start.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if read_again is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload, read_again)
        self.pipeline.start()
        # Records are many and live in no cycles: looking for some each 700 objects would cost a fifth of the time.
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        try:
            await self._listen(stop, started)
        finally:
            await asyncio.to_thread(self.pipeline.stop)

    def _reload(self, read_again: Callable[[], Config]) -> None:
        try:
            rules = read_again().attribution.rules
        except ConfigError as error:
            logger.error("the configuration is kept as it was: %s", error)
            return
        self.pipeline.attribution = AttributionMap(rules)
        logger.info("the rules of attribution were read again: %d", len(rules))

    async def _listen(self, stop: asyncio.Event, started: Callable[[], None]) -> None:
        listen, limits = self._config.listen, self._config.limits
        http_socket = _bind(listen.host, listen.http_port, "listen.http_port")
        status_socket = _bind(listen.host, listen.metrics_port, "listen.metrics_port")
        grpc_server = otlp_grpc.server(self.pipeline, limits.body_bytes)
        try:
            grpc_port = grpc_server.add_insecure_port(f"{_bracketed(listen.host)}:{listen.grpc_port}")
        except RuntimeError:
            raise _taken(listen.host, listen.grpc_port, "listen.grpc_port") from None
        http = self._http(OtlpHttp(self.pipeline, limits.body_bytes, limits.inflated_bytes))
        status = self._http(StatusHttp(self.pipeline, self._exposition))
        await grpc_server.start()
        tasks = [
            asyncio.create_task(http.serve(sockets=[http_socket])),
            asyncio.create_task(status.serve(sockets=[status_socket])),
        ]
        while not (http.started and status.started):
            await asyncio.sleep(0.005)
        host = _bracketed(listen.host)
        self.addresses = {
            "OTLP/gRPC": f"{host}:{grpc_port}",
            "OTLP/HTTP": f"http://{host}:{http_socket.getsockname()[1]}",
            "metrics": f"http://{host}:{status_socket.getsockname()[1]}/metrics",
        }
        started()
        await stop.wait()
        http.should_exit = True
        await grpc_server.stop(limits.shutdown_seconds)
        await tasks[0]
        # The scrape endpoint goes last: what was just committed may still be read.
        status.should_exit = True
        await tasks[1]

    def _http(self, application: Any) -> _Server:
        return _Server(
            uvicorn.Config(
                application,
                http="httptools",
                ws="none",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=self._config.limits.shutdown_seconds,
            )
        )


def _bind(host: str, port: int, field: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise _taken(host, port, field) from None
    made.listen(1024)
    made.setblocking(False)
    return made


def _taken(host: str, port: int, field: str) -> ListenError:
    return ListenError(f"cannot listen on {host}:{port} ({field}): is it in use? Choose another port, or 0 for any")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
