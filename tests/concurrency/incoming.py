# pyright: basic, reportMissingImports=false
"""Flask, Django, FastAPI under OpenTelemetry's instrumentations: a request with baggage, a call in it."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import openai

ROOT_URLCONF, ALLOWED_HOSTS, SECRET_KEY, MIDDLEWARE = "tests.concurrency.incoming", ["*"], "x", []
"""Django's settings: this module is them."""
urlpatterns: list[Any] = []
BAGGAGE = "genai_meter.tenant=acme,genai_meter.owner=mallory,other=x"


def ask(route: str) -> None:
    messages: Any = [{"role": "user", "content": f"From {route}"}]
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=messages, user=route)


def flask() -> None:
    from flask import Flask

    app = Flask("shop")
    app.add_url_rule("/ask", view_func=lambda: (ask("flask"), "ok")[1])
    assert app.test_client().get("/ask", headers={"baggage": BAGGAGE}).status_code == 200


def django() -> None:
    import django as package

    import tests.concurrency.incoming as urls

    package.setup()
    from django.http import HttpResponse
    from django.test import Client
    from django.urls import path

    def view(_request: Any) -> HttpResponse:
        ask("django")
        return HttpResponse("ok")

    urls.urlpatterns.append(path("ask", view))
    assert Client().get("/ask", headers={"baggage": BAGGAGE}).status_code == 200


def fastapi() -> None:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/ask")
    def view() -> str:
        ask("fastapi")
        return "ok"

    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/ask",
        "raw_path": b"/ask",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"shop"), (b"baggage", BAGGAGE.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 200


if __name__ == "__main__":
    {"flask": flask, "django": django, "fastapi": fastapi}[sys.argv[1]]()
