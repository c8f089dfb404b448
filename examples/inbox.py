"""An inbox on loopback: HTTP for webhooks, Slack and PagerDuty, SMTP for mail. It answers like them and keeps all."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final

POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Message:
    """One message that came in."""

    path: str
    """Where it was posted to; of a mail, to whom."""
    body: Any
    """Parsed JSON; of a mail, an `EmailMessage`."""
    at: float
    """Unix seconds."""
    headers: dict[str, str]
    """In lower case; of a mail, its own."""


class Inbox:
    """Listens inside `with`; `messages` grows as they come."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.answers: list[int] = []
        """HTTP statuses for the next posts, in order; 200 when empty."""
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """Base address for posts; every path is taken."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def smtp(self) -> str:
        """Host and port for mail."""
        return f"127.0.0.1:{self._smtp.server_address[1]}"

    def at(self, path: str) -> list[Message]:
        """What was posted to a path, oldest first."""
        return [message for message in list(self.messages) if message.path == path]

    def first(self, path: str, fits: Callable[[Any], object]) -> Message | None:
        """The oldest message at a path whose body fits."""
        return next((message for message in self.at(path) if fits(message.body)), None)

    def __enter__(self) -> Inbox:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _posts_to(self))
        self._smtp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _mails_to(self))
        for server in (self._http, self._smtp):
            server.daemon_threads = True
            self._stack.callback(server.server_close)
            thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
            thread.start()
            self._stack.callback(thread.join)
            self._stack.callback(server.shutdown)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


def _posts_to(inbox: Inbox) -> type[BaseHTTPRequestHandler]:
    class Posts(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = inbox.answers.pop(0) if inbox.answers else 200
            inbox.messages.append(Message(self.path, json.loads(body), time.time(), headers))
            # PagerDuty wants JSON and 202 or 200, Slack the word ok; nobody minds both.
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("location", f"{inbox.url}/elsewhere")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Silent."""

    return Posts


def _mails_to(inbox: Inbox) -> type[socketserver.StreamRequestHandler]:
    class Mails(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            to = ""
            self._say("220 inbox")
            while line := self.rfile.readline():
                command = line.strip().decode()
                verb = command[:4].upper()
                if verb == "RCPT":
                    to = command.partition("<")[2].partition(">")[0]
                if verb == "DATA":
                    self._say("354 go on")
                    mail = message_from_bytes(self._data(), policy=policy.default)
                    headers = {name.lower(): str(value) for name, value in mail.items()}
                    inbox.messages.append(Message(to, mail, time.time(), headers))
                self._say("221 bye" if verb == "QUIT" else "250 ok")
                if verb == "QUIT":
                    return

        def _data(self) -> bytes:
            lines: list[bytes] = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
            return b"".join(lines)

        def _say(self, text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

    return Mails
