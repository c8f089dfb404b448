"""What `tests/test_google.py` asks of the real client, where it is installed.

`python -m tests.google_cases FILE [TRAFFIC]`: each case returns what the test compares; all go to FILE as JSON.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import gc
import json
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import google.genai
from genai_meter import Blocked, attribute, emit, guard, safety
from genai_meter.call import Prepared
from genai_meter.instrumentor import GoogleGenAIInstrumentor
from google.genai import _api_client, live, types
from google.genai._gaos import basesdk
from google.oauth2.credentials import Credentials
from opentelemetry import trace
from websockets.asyncio.client import connect as open_socket
from websockets.asyncio.server import serve

from examples.provider import Provider
from tests.emission_kit import Telemetry
from tests.matrix.google_genai_stage import ASK, GEMINI, weather

Case = Callable[["Stage"], Any]
CASES: Final[dict[str, Case]] = {}
WANTED: Final = (
    "genai_meter.status",
    "genai_meter.guard.action",
    "genai_meter.guard.rule",
    "genai_meter.guard.original_model",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "genai_meter.usage.source",
    "genai_meter.usage.images",
    "genai_meter.cost.status",
    "genai_meter.price.context",
    "genai_meter.provider.account",
    "genai_meter.deployment",
    "genai_meter.sdk",
    "genai_meter.tenant",
    "genai_meter.tier",
    "cloud.region",
    "error.type",
)


def case(run: Case) -> Case:
    """Declare a case under the name of its function."""
    CASES[run.__name__] = run
    return run


class Stage:
    """Provider, clients, and what was emitted."""

    def __init__(self, provider: Provider, telemetry: Telemetry, traffic: Path | None) -> None:
        self.provider, self.telemetry, self.traffic = provider, telemetry, traffic
        self.kept: list[Any] = []

    def client(self, **options: Any) -> Any:
        http = types.HttpOptions(base_url=self.provider.url, client_args={"verify": False, **options})
        self.kept.append(google.genai.Client(api_key="test-key", http_options=http))
        return self.kept[-1]

    def vertex(self) -> Any:
        http = types.HttpOptions(base_url=self.provider.url, client_args={"verify": False})
        self.kept.append(
            google.genai.Client(
                vertexai=True,
                project="standin",
                location="europe-west4",
                credentials=Credentials("t"),
                http_options=http,
            )
        )
        return self.kept[-1]

    def events(self) -> list[dict[str, Any]]:
        """What was emitted since the last time, the fields that tests look at."""
        gc.collect()
        emit.flush()
        found = [event.attributes for event in self.telemetry.events]
        self.telemetry.clear()
        return [{name: told[name] for name in WANTED if name in told} for told in found]

    def sent(self) -> list[Any]:
        """Path and body of every answered request since the last time."""
        found = [[served.path, served.request] for served in self.provider.served]
        self.provider.reset()
        return found


def vertex(http: Any = None) -> Any:
    return google.genai.Client(
        vertexai=True, project="standin", location="europe-west4", credentials=Credentials("t"), http_options=http
    )


@contextmanager
def deciding(decide: Callable[[Prepared], guard.Decision]) -> Generator[None]:
    """A policy for as long as the block lasts."""

    async def decide_async(prepared: Prepared) -> guard.Decision:
        return decide(prepared)

    before = guard.decide, guard.decide_async
    guard.decide, guard.decide_async = decide, decide_async
    try:
        yield
    finally:
        guard.decide, guard.decide_async = before


def block(_prepared: Prepared) -> guard.Decision:
    raise Blocked("no more money")


def degrade(_prepared: Prepared) -> guard.Decision:
    return guard.Decision("degrade", "cheap", change={"model": "gemini-2.5-flash-lite", "max_tokens": 5})


def raised(function: Callable[[], Any]) -> str:
    try:
        function()
    except Blocked as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


# --- prepare and guard
@case
def known_before(stage: Stage) -> Any:
    seen: list[Any] = []

    def decide(prepared: Prepared) -> guard.Decision:
        target = prepared.target
        seen.append([target.provider, target.host, target.region, target.account, target.sdk, target.api_key])
        seen.append([prepared.request.model, prepared.request.max_tokens, prepared.rate_card is not None])
        seen.append([prepared.estimate.buckets, len(stage.provider.attempts), prepared.attribution.get("tenant")])
        return guard.ALLOW

    with deciding(decide), attribute(tenant="acme"):
        config = {"max_output_tokens": 7}
        stage.client().models.generate_content(model="models/gemini-2.5-flash", contents="Where to?", config=config)
        stage.vertex().models.generate_content(model=GEMINI, contents="Where to?")
    return [seen, stage.events()]


@case
def degraded(stage: Stage) -> Any:
    config = types.GenerateContentConfig(temperature=0.5, max_output_tokens=90)
    before = config.model_dump()
    with deciding(degrade):
        stage.client().models.generate_content(model="gemini-2.5-pro", contents=ASK, config=config)
        list(stage.client().models.generate_content_stream(model="gemini-2.5-pro", contents=ASK))
        stage.vertex().models.generate_content(model="projects/p/locations/l/endpoints/7", contents=ASK)
    paths = [(path, body.get("generationConfig")) for path, body in stage.sent()]
    return [paths, stage.events(), config.model_dump() == before]


@case
def degraded_interaction(stage: Stage) -> Any:
    config = {"temperature": 0.5}
    with deciding(degrade):
        stage.client().interactions.create(model="gemini-2.5-pro", input=ASK, generation_config=config)
    return [stage.sent(), config, stage.events()]


@case
def blocked(stage: Stage) -> Any:
    client = stage.client()
    with deciding(block):
        told = [raised(lambda: client.models.generate_content(model=GEMINI, contents=ASK))]
        chunks = client.models.generate_content_stream(model=GEMINI, contents=ASK)
        told += [raised(lambda: next(chunks))]
        told += [raised(lambda: client.interactions.create(model=GEMINI, input=ASK))]
        told += [raised(lambda: asyncio.run(client.aio.models.generate_content(model=GEMINI, contents=ASK)))]
    return [told, len(stage.provider.attempts), stage.events()]


# --- around a call
@case
def current_span(stage: Stage) -> Any:
    seen: list[Any] = []

    def look(_request: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    client = stage.client(event_hooks={"request": [look]})
    client.models.generate_content(model=GEMINI, contents=ASK)
    client.interactions.create(model=GEMINI, input=ASK)
    after = trace.get_current_span().get_span_context().is_valid
    spans = [span.context.span_id for span in stage.telemetry.spans if span.context is not None]
    stage.events()
    return [seen == spans, len(spans), after]


@case
def function_calls(stage: Stage) -> Any:
    config = types.GenerateContentConfig(tools=[weather])
    with stage.telemetry.tracer_provider.get_tracer("app").start_as_current_span("turn") as turn:
        stage.client().models.generate_content(model=GEMINI, contents=ASK, config=config)
    inner = [span for span in stage.telemetry.spans if span.name.startswith("generate_content")]
    parents = {span.parent.span_id for span in inner if span.parent is not None}
    return [len(inner), parents == {turn.get_span_context().span_id}, [e["genai_meter.status"] for e in stage.events()]]


@case
def tiers(stage: Stage) -> Any:
    stage.client().models.generate_content(model=GEMINI, contents=ASK, config={"service_tier": "flex"})
    stage.client().interactions.create(model=GEMINI, input=ASK, service_tier="flex")
    return stage.events()


@case
def pictures_and_videos(stage: Stage) -> Any:
    models = stage.vertex().models
    models.generate_images(model="imagen-4.0-generate-001", prompt=ASK, config={"number_of_images": 3})
    models.generate_videos(model="veo-3.0-generate-001", prompt=ASK, config={"duration_seconds": 8})
    return stage.events()


@case
def endpoint(stage: Stage) -> Any:
    stage.vertex().models.generate_content(model="projects/p9/locations/us-east1/endpoints/123", contents=ASK)
    return stage.events()


@case
def in_the_background(stage: Stage) -> Any:
    interactions = stage.client().interactions
    with attribute(tenant="acme"):
        order = interactions.create(model=GEMINI, input=ASK, background=True)
    told = [order.status, len(stage.events())]
    interactions.get(order.id)
    told.append(stage.events())
    interactions.get(order.id)
    interactions.get(interactions.create(model=GEMINI, input=ASK).id)
    return [*told, len(stage.events())]


@case
def taken_away(stage: Stage) -> Any:
    client, instrumentor = stage.client(), GoogleGenAIInstrumentor()
    patched = _api_client.BaseApiClient._request, basesdk.BaseSDK.do_request, live.AsyncSession._receive
    instrumentor.uninstrument()
    client.models.generate_content(model=GEMINI, contents=ASK)
    client.interactions.create(model=GEMINI, input=ASK)
    without = len(stage.events())
    bare = [hasattr(method, "__wrapped__") for method in _methods()]
    # Somebody who wrapped ours keeps it; it lets pass.
    instrumentor.instrument(skip_dep_check=True)
    ours: Any = _api_client.BaseApiClient._request

    def theirs(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    _api_client.BaseApiClient._request = theirs
    instrumentor.uninstrument()
    client.models.generate_content(model=GEMINI, contents=ASK)
    below = len(stage.events())
    _api_client.BaseApiClient._request = ours.__wrapped__
    instrumentor.instrument(skip_dep_check=True)
    client.models.generate_content(model=GEMINI, contents=ASK)
    return [len(patched), without, bare, below, len(stage.events())]


def _methods() -> list[Any]:
    client = _api_client.BaseApiClient
    return [client._request, client._async_request, basesdk.BaseSDK.do_request, live.AsyncSession._receive]


# --- Live sessions
LOOK: Final = {"serverContent": {"modelTurn": {"parts": [{"text": "North"}]}}}
COUNT: Final = {"promptTokenCount": 20, "responseTokenCount": 5, "thoughtsTokenCount": 2, "totalTokenCount": 27}
COMPLETE: Final = {"serverContent": {"turnComplete": True}}


async def session(events: list[dict[str, Any]], *, leave: int | None = None) -> None:
    """Play a recorded session through the real client, up to event `leave`."""

    async def play(socket: Any) -> None:
        for event in events:
            if event["direction"] == "sent":
                await socket.recv()
            else:
                await socket.send(json.dumps(event["data"]))
        await socket.wait_closed()

    async with serve(play, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]

        def local(_uri: str, **kwargs: Any) -> Any:
            # The library knows nothing but TLS.
            return open_socket(f"ws://127.0.0.1:{port}/", additional_headers=kwargs["additional_headers"])

        live.ws_connect = local
        setup = events[0]["data"]["setup"]
        client = vertex() if setup["model"].startswith("publishers/") else google.genai.Client(api_key="test-key")
        async with client.aio.live.connect(model=setup["model"]) as talk:
            messages: Any = talk.receive()
            for event in events[2:leave]:
                if event["direction"] == "sent":
                    await talk.send_client_content(turns={"role": "user", "parts": [{"text": "Go on."}]})
                    continue
                try:
                    await anext(messages)
                except StopAsyncIteration:
                    messages = talk.receive()
                    await anext(messages)


def turn(*received: dict[str, Any]) -> list[dict[str, Any]]:
    """A setup and one turn of the client, then what the server says."""
    asked = [{"direction": "sent", "data": {"setup": {"model": "models/gemini-3.1-flash-live-preview"}}}]
    asked += [{"direction": "received", "data": {"setupComplete": {}}}, {"direction": "sent", "data": {}}]
    return asked + [{"direction": "received", "data": data} for data in received]


@case
def live_turns(stage: Stage) -> Any:
    asyncio.run(session(turn(LOOK, COMPLETE | {"usageMetadata": COUNT}, LOOK, COMPLETE, {"usageMetadata": COUNT})))
    return stage.events()


@case
def live_left(stage: Stage) -> Any:
    asyncio.run(session(turn(LOOK, LOOK, COMPLETE | {"usageMetadata": COUNT}), leave=4))
    return stage.events()


@case
def live_blocked(stage: Stage) -> Any:
    with deciding(block):
        return [raised(lambda: asyncio.run(session(turn(LOOK)))), stage.events()]


@case
def live_recorded(stage: Stage) -> Any:
    if stage.traffic is None:
        return None
    import gzip

    told: dict[str, Any] = {}
    with gzip.open(stage.traffic / "extra.dev.jsonl.gz") as lines:
        for record in map(json.loads, lines):
            if record["provider"] != "gcp.gemini":
                continue
            asyncio.run(session(record["events"]))
            counts = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
            told[record["id"]] = [
                [[event.get(name) for name in counts] for event in stage.events()],
                [[truth["input_tokens"], truth["output_tokens"]] for truth in record["usage_truth"]],
            ]
    return told


def main(file: Path, traffic: Path | None) -> None:
    # Of the library: which of its methods it would rather have called.
    warnings.simplefilter("ignore")
    telemetry = Telemetry()
    telemetry.bind()
    GoogleGenAIInstrumentor().instrument(skip_dep_check=True)
    results: dict[str, Any] = {}
    with Provider() as provider:
        for name, run in CASES.items():
            provider.reset()
            safety.internal_errors.clear()
            results[name] = run(Stage(provider, telemetry, traffic))
            results[f"{name}: errors"] = dict(safety.internal_errors)
    file.write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
