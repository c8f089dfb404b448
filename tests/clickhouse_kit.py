"""ClickHouse in this process (chdb), for tests: one engine a process, a database each ledger."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.environments import CHDB


def site_packages() -> Path:
    """Where chdb is, with nothing else."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return CHDB.python().parents[1] / "lib" / version / "site-packages"


@functools.cache
def engine() -> Any:
    """A client that stays open: without any the engine would stop."""
    try:
        place = str(site_packages())
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"chdb cannot be installed here: {error}")
    if place not in sys.path:
        # Last: what the suite has is not hidden.
        sys.path.append(place)
    from genai_meter_exporter.store.clickhouse_reader import connect

    directory = tempfile.mkdtemp(prefix="genai-meter-clickhouse-")
    client = connect(f"chdb://{directory}/default")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(client.close)
    return client


def new_database() -> str:
    """The URL of an empty database."""
    name = f"ledger_{uuid.uuid4().hex}"
    engine().command(f"CREATE DATABASE {name}")
    return f"chdb://{engine().path}/{name}"


class Server:
    """ClickHouse's HTTP interface, as far as a client needs it, in front of the engine of this process."""

    def __init__(self) -> None:
        self._engine = engine()
        self._lock = threading.Lock()
        self.requests = 0
        self._port = 0

    def url(self) -> str:
        """Of an empty database."""
        name = new_database().rpartition("/")[2]
        return f"clickhouse://meter:secret@127.0.0.1:{self._port}/{name}"

    @staticmethod
    def here(url: str) -> str:
        """The same database without HTTP."""
        return f"chdb://{engine().path}/{url.rpartition('/')[2]}"

    def start(self) -> Server:
        """Listen, on the same port after a stop."""
        self._connection: Any = importlib.import_module("chdb").connect(engine().path)
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                # Whoever was killed neither asks nor reads.
                with contextlib.suppress(ConnectionError):
                    super().handle()

            def do_POST(self) -> None:
                server.answer(self)

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Not on the terminal."""

        self._http = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._http.daemon_threads = True
        self._port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Listen no more."""
        self._http.shutdown()
        self._http.server_close()
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Run one statement."""
        told = dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        if request.headers.get("Authorization") != "Basic " + b64encode(b"meter:secret").decode():
            self._send(request, 403, b"Code: 516. DB::Exception: Authentication failed")
            return
        assert "Content-Encoding" not in request.headers
        parameters = {name.removeprefix("param_"): told[name] for name in told if name.startswith("param_")}
        query, data = (told["query"], body) if "query" in told else (body.decode(), b"")
        try:
            with self._lock:
                self.requests += 1
                self._connection.query(f"USE {told['database']}" if told.get("database") else "USE default")
                found, form = self._run(query, data, told, parameters)
        except Exception as error:  # noqa: BLE001
            self._send(request, 500, str(error).encode())
        else:
            self._send(request, 200, found, form)

    def _run(
        self, query: str, data: bytes, told: dict[str, str], parameters: dict[str, str]
    ) -> tuple[bytes, str | None]:
        form = re.search(r"\bFORMAT\s+(\w+)\s*$", query)
        if not data:
            name = form[1] if form else "TabSeparated"
            return self._connection.query(query, name, params=parameters).bytes(), name
        assert form, query
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            names = [name for name in told if name.startswith(("input_format_", "max_partitions"))]
            settings = ", ".join(f"{name} = {told[name]}" for name in names)
            into = query[: form.start()]
            self._connection.query(f"{into} FROM INFILE '{file.name}' SETTINGS {settings} {form[0]}")
        return b"", None

    def _send(self, request: BaseHTTPRequestHandler, status: int, body: bytes, form: str | None = None) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("X-ClickHouse-Timezone", "UTC")
        if form:
            request.send_header("X-ClickHouse-Format", form)
        request.end_headers()
        request.wfile.write(body)
