"""`genai-meter serve`: one asyncio loop with three listeners, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import ssl
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc.aio
import uvicorn

from genai_meter_exporter import alerting, telemetry
from genai_meter_exporter.access.gate import Gate, keyring_of, rates_of
from genai_meter_exporter.access.tls import certificates
from genai_meter_exporter.anomalies import exposition as anomaly_metrics
from genai_meter_exporter.anomalies.watch import Watch, Watcher
from genai_meter_exporter.api.application import Api
from genai_meter_exporter.attribution_map import AttributionMap
from genai_meter_exporter.bounds import bounds_of
from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.budgets.history import History
from genai_meter_exporter.charging import open_prices
from genai_meter_exporter.config import Config, kept_days, overlay, written_path
from genai_meter_exporter.counters import Counters
from genai_meter_exporter.digest.memory import memory
from genai_meter_exporter.digest.sender import Sender
from genai_meter_exporter.digest.unusual import open_now
from genai_meter_exporter.load import Disk
from genai_meter_exporter.metrics import Exposition, LiveFacts, MeterCollector
from genai_meter_exporter.pipeline import Pipeline
from genai_meter_exporter.receive import grpc as otlp_grpc
from genai_meter_exporter.receive.http import OtlpHttp
from genai_meter_exporter.receive.protocol import bounded
from genai_meter_exporter.reload import Parts, Reloader
from genai_meter_exporter.store import open_readonly, open_store

logger: Final = logging.getLogger("genai_meter_exporter")


GC_THRESHOLDS: Final = (500_000, 20, 50)

_WATCH_SECONDS: Final = 5.0
"""How often certificates, and tokens that nobody uses, are looked at."""


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

    def __init__(self, config: Config, data_directory: Path, file: Path | None = None) -> None:
        """Paths in the configuration start where its file is."""
        self._config = config
        directory = file.parent if file else Path()
        self._gate = Gate(keyring_of(config.access, directory), rates_of(config.access))
        self._certificates = certificates(config.tls, directory)
        self.store_path = config.store.url or data_directory / config.store.path
        labels, limits = config.labels, config.limits
        self._facts = LiveFacts()
        self._facts.book_id, self._facts.book_time = open_prices(overlay(config, file))
        bounds = bounds_of(labels)
        counters = Counters(config.metrics.scrape_interval_seconds)
        read = partial(open_readonly, self.store_path)
        written = written_path(config, str(data_directory))
        store = open_store(written, bounds, config)
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
            read=read,
            shared=config.store.url is not None,
            disk=Disk(written.parent, limits.inflated_bytes) if isinstance(written, Path) else None,
        )
        anomalies = Watch(config.anomalies, data_directory, [contract.tenant for contract in config.budgets.contracts])
        self.digests = Sender(
            config.digest,
            memory(config.store.url, data_directory),
            read,
            lambda: self.budgets.standings(time.time()),
            anomalies=partial(open_now, anomalies),
            directory=directory,
        )
        self._watcher = Watcher(anomalies, read)
        parts = Parts(self.pipeline, self._facts, self._gate, self.budgets, self.digests, self._watcher, read)
        self._reloader = Reloader(config, file, parts)
        others = (
            lambda: alerting.collect(self._reloader.config.alerts),
            self._reloader.collect,
            partial(telemetry.collect, self.pipeline),
            partial(anomaly_metrics.collect, anomalies),
            self.digests.collect,
        )
        self._exposition = Exposition(MeterCollector(counters, bounds, self._facts, self.budgets, others))
        self.addresses: dict[str, str] = {}
        """Listener → where it listens, once it does."""

    async def serve(self, started: Callable[[], None], read_again: Callable[[], Config]) -> bool:
        """Listen until told to stop; then finish what is under way, commit it, answer it. Calls `started` once.

        Told a second time, leave requests unanswered that are not committed yet; False then.

        On SIGHUP the configuration is taken that `read_again` gives.
        """
        stop, hurry = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
        loop.add_signal_handler(signal.SIGHUP, self._reloader.ask)
        self.pipeline.start()
        self.digests.start()
        self._watcher.start()
        # Records are many and live in no cycles: looking for some each 700 objects would cost a fifth of the time.
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        reloading = asyncio.create_task(self._reloader.run(read_again))
        try:
            await self._listen(stop, hurry, started)
        finally:
            reloading.cancel()
            if self.pipeline.observer is not None:
                await asyncio.to_thread(self.pipeline.observer.close)
            await asyncio.to_thread(self._watcher.stop)
            await asyncio.to_thread(self.digests.stop)
            await asyncio.to_thread(self.pipeline.stop)
        return not hurry.is_set()

    async def _listen(self, stop: asyncio.Event, hurry: asyncio.Event, started: Callable[[], None]) -> None:
        listen, limits = self._config.listen, self._config.limits
        http_socket = _bind(listen.host, listen.http_port, "listen.http_port")
        api_socket = _bind(listen.host, listen.metrics_port, "listen.metrics_port")
        grpc_server = otlp_grpc.server(self.pipeline, self._gate, limits.body_bytes)
        grpc_port = self._add_port(grpc_server)
        http = self._http(OtlpHttp(self.pipeline, self._gate, limits))
        api = self._http(Api(self.pipeline, self._exposition, self._gate, partial(open_readonly, self.store_path)))
        await grpc_server.start()
        tasks = [
            asyncio.create_task(http.serve(sockets=[http_socket])),
            asyncio.create_task(api.serve(sockets=[api_socket])),
        ]
        while not (http.started and api.started):
            await asyncio.sleep(0.005)
        host, scheme = _bracketed(listen.host), "https" if self._certificates else "http"
        self.addresses = {
            "OTLP/gRPC": f"{host}:{grpc_port}",
            "OTLP/HTTP": f"{scheme}://{host}:{http_socket.getsockname()[1]}",
            "metrics": f"{scheme}://{host}:{api_socket.getsockname()[1]}/metrics",
        }
        ports = [grpc_port, *(made.getsockname()[1] for made in (http_socket, api_socket))]
        self.pipeline.observer = telemetry.observer(self._config.telemetry, self.pipeline, ports)
        started()
        watch = asyncio.create_task(self._watch())
        await stop.wait()
        logger.debug("stopping: requests under way are finished; told once more, they are not")
        watch.cancel()
        self.pipeline.begin_shutdown()
        hurried = asyncio.create_task(self._hurry(hurry, grpc_server, http, api))
        http.should_exit = True
        await grpc_server.stop(limits.shutdown_seconds)
        await tasks[0]
        # The API goes last: what was just committed may still be read, and `/readyz` says why nobody should send.
        api.should_exit = True
        await tasks[1]
        hurried.cancel()

    async def _hurry(self, hurry: asyncio.Event, grpc_server: grpc.aio.Server, *servers: _Server) -> None:
        """End now: whoever has no answer sends again."""
        await hurry.wait()
        for server in servers:
            server.force_exit = True
        await grpc_server.stop(0)

    async def _watch(self) -> None:
        """Tokens and certificates that have changed hold from now on."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if self._gate.keyring is not None:
                self._gate.keyring.look()
            if self._certificates is not None:
                await asyncio.to_thread(self._certificates.look)

    def _add_port(self, server: grpc.aio.Server) -> int:
        listen = self._config.listen
        address = f"{_bracketed(listen.host)}:{listen.grpc_port}"
        try:
            if self._certificates is not None:
                return server.add_secure_port(address, self._certificates.credentials())
            return server.add_insecure_port(address)
        except RuntimeError:
            raise _taken(listen.host, listen.grpc_port, "listen.grpc_port", "is it in use?") from None

    def _context(self, *_: object) -> ssl.SSLContext:
        assert self._certificates is not None
        return self._certificates.context

    def _http(self, application: Any) -> _Server:
        return _Server(
            uvicorn.Config(
                application,
                http=bounded(self._config.limits.request_seconds),
                limit_concurrency=self._config.limits.connections,
                ssl_context_factory=self._context if self._certificates else None,
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
    # Named by its protocol: only then does asyncio send answers at once (TCP_NODELAY), not 40 ms later.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise _taken(host, port, field, error.strerror or str(error)) from None
    made.listen(1024)
    made.setblocking(False)
    return made


def _taken(host: str, port: int, field: str, why: str) -> ListenError:
    return ListenError(f"cannot listen on {host}:{port} ({field}): {why}; take another port (0: any free) or host")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
