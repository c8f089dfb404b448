"""A gateway: answers `POST /v1/chat/completions` by asking the provider of `UPSTREAM` with the same body."""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from openai import OpenAI

create: Any = OpenAI(base_url=os.environ["UPSTREAM"], api_key="gateway").chat.completions.create


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = create(**body)
        self.send_response(200)
        if body.get("stream"):
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for chunk in answer:
                self.wfile.write(b"data: " + chunk.model_dump_json(exclude_unset=True).encode() + b"\n\n")
            self.wfile.write(b"data: [DONE]\n\n")
        else:
            text = answer.model_dump_json(exclude_unset=True).encode()
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the library
        """Quiet."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()
