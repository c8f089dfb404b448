"""Bedrock through `botocore`: every operation that is metered, and every way to read what comes back."""

from __future__ import annotations

import copy
import functools
import gc
import io
import json
from collections.abc import Callable
from typing import Any, Final

from tests import aws_kit

from .scenario import NotThere, Stage, attempt, scenario
from .view import kind

MODEL: Final = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
TURNS: Final = [{"role": "user", "content": [{"text": "Where should the next delivery go?"}]}]
ASK: Final[dict[str, Any]] = {"modelId": MODEL, "messages": TURNS, "inferenceConfig": {"maxTokens": 100}}
BODY: Final = json.dumps(
    {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Where should the next delivery go?"}],
    }
)
INVOKE: Final[dict[str, Any]] = {"modelId": MODEL, "body": BODY}
AGENT: Final = {"agentId": "AGENT00001", "agentAliasId": "ALIAS00001", "sessionId": "s-1", "inputText": "Where to?"}
CHANGING: Final = ("date", "x-request-id", "request-id", "x-amzn-requestid")
"""Headers that no two answers share."""

VENDORS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "Titan": ("amazon.titan-text-express-v1", {"inputText": "Where to?", "textGenerationConfig": {"maxTokenCount": 9}}),
    "Nova": ("us.amazon.nova-lite-v1:0", {"messages": TURNS}),
    "Llama": ("meta.llama3-8b-instruct-v1:0", {"prompt": "Where to?", "max_gen_len": 7}),
    "Titan embeddings": ("amazon.titan-embed-text-v2:0", {"inputText": "Where to?"}),
    "Cohere embeddings": ("cohere.embed-english-v3", {"texts": ["Where to?"], "input_type": "search_query"}),
    "Cohere rerank": ("cohere.rerank-v3-5:0", {"query": "Where?", "documents": ["North", "South"], "api_version": 2}),
    "pictures": ("amazon.nova-canvas-v1:0", {"taskType": "TEXT_IMAGE", "textToImageParams": {"text": "A van"}}),
}
STREAMING: Final = ("Titan", "Nova", "Llama")


class BotocoreStage(Stage):
    """Clients by service and trouble; each is made once, for they are slow to make."""

    made: Final[dict[tuple[str, str, str], Any]] = {}

    def of(self, service: str = "bedrock-runtime", trouble: str = "", url: str = "") -> Any:
        """A client whose requests ask for trouble."""
        key = (service, trouble, url)
        if key not in self.made:
            retries = {"mode": "standard", "total_max_attempts": 3}
            try:
                made = aws_kit.client(service, url or self.provider.url, retries=retries)
            except Exception as error:
                if kind(error) != "botocore.exceptions.UnknownServiceError":
                    raise
                raise NotThere(service) from None
            ask_for(made, trouble)
            self.made[key] = made
        return self.made[key]

    def reported(self, usage: dict[str, Any] | None) -> list[int] | None:
        """Gross input and output tokens."""
        if usage is None:
            return None
        cached = usage.get("cacheReadInputTokens", 0) + usage.get("cacheWriteInputTokens", 0)
        return [usage["inputTokens"] + cached, usage.get("outputTokens", 0)]


def ask_for(client: Any, trouble: str) -> None:
    """Put the header that asks for trouble on every request of a client."""
    if trouble:
        aws_kit.add_header(client, "x-scenario", trouble)


def method(client: Any, name: str) -> Any:
    """A method that this version has."""
    try:
        return getattr(client, name)
    except AttributeError:
        raise NotThere(name) from None


def tidy(answer: Any) -> Any:
    """An answer or an error without what no two answers share, and without what is read by itself."""
    told: Any = getattr(answer, "response", answer)
    if not isinstance(told, dict):
        return [kind(answer), str(answer)]
    seen: dict[str, Any] = {**told}
    metadata: dict[str, Any] = {**seen.pop("ResponseMetadata", {})}
    headers: dict[str, Any] = metadata.pop("HTTPHeaders", {})
    metadata.pop("RequestId", None)
    seen["metadata"] = metadata | {name: value for name, value in headers.items() if name not in CHANGING}
    return [kind(answer), *([str(answer)] if answer is not told else []), seen]


def payload(event: Any) -> Any:
    """A chunk of a vendor's stream."""
    return json.loads(event["chunk"]["bytes"])


# --- Converse ---------------------------------------------------------------------------------------
@scenario("botocore", "converse")
def converse(stage: BotocoreStage) -> Any:
    return tidy(method(stage.of(), "converse")(**ASK))


@scenario("botocore", "converse: cache written, then read", "ok", "ok")
def cached(stage: BotocoreStage) -> Any:
    system = [{"text": "Deliveries go north. " * 40}, {"cachePoint": {"type": "default"}}]
    ask = method(stage.of(), "converse")
    if "cachePoint" not in str(ask.__self__.meta.service_model.shape_for("SystemContentBlock").members):
        raise NotThere("cachePoint")
    return [tidy(ask(**ASK, system=system)), tidy(ask(**ASK, system=system))]


@scenario("botocore", "converse: retry 2 × 500", attempts=3)
def retried(stage: BotocoreStage) -> Any:
    return tidy(method(stage.of(trouble="500x2"), "converse")(**ASK))


@scenario("botocore", "converse: throttled", "error", attempts=3)
def throttled(stage: BotocoreStage) -> Any:
    ask = method(stage.of(trouble="429"), "converse")
    return tidy(attempt(lambda: ask(**ASK)))


@scenario("botocore", "converse: 400", "error")
def refused(stage: BotocoreStage) -> Any:
    ask = method(stage.of(trouble="400"), "converse")
    return tidy(attempt(lambda: ask(**ASK)))


@scenario("botocore", "converse: wrong parameters", "not metered")
def wrong(stage: BotocoreStage) -> Any:
    return attempt(lambda: method(stage.of(), "converse")(modelId=MODEL, messages=3))


@scenario("botocore", "no connection", "error", attempts=3)
def no_connection(stage: BotocoreStage) -> Any:
    client = stage.of(url="http://127.0.0.1:9")
    return attempt(lambda: client.invoke_model(**INVOKE))


@scenario("botocore", "stream")
def stream(stage: BotocoreStage) -> Any:
    answer = method(stage.of(), "converse_stream")(**ASK)
    opened = answer.pop("stream")
    return [tidy(answer), kind(opened), list(opened)]


@scenario("botocore", "stream: read in two goes")
def two_goes(stage: BotocoreStage) -> Any:
    opened = method(stage.of(), "converse_stream")(**ASK)["stream"]
    first = next(iter(opened))
    return [first, list(opened)]


@scenario("botocore", "stream: retry 2 × 500", attempts=3)
def stream_retried(stage: BotocoreStage) -> Any:
    return list(method(stage.of(trouble="500x2"), "converse_stream")(**ASK)["stream"])


@scenario("botocore", "stream: close", "closed_early")
def stream_closed(stage: BotocoreStage) -> Any:
    opened = method(stage.of(trouble="slow:0.01"), "converse_stream")(**ASK)["stream"]
    first = next(iter(opened))
    opened.close()
    return first


@scenario("botocore", "stream: break, then dropped", "abandoned")
def stream_dropped(stage: BotocoreStage) -> Any:
    opened = method(stage.of(trouble="slow:0.01"), "converse_stream")(**ASK)["stream"]
    first = next(iter(opened))
    del opened
    gc.collect()
    return first


@scenario("botocore", "stream: never iterated", "abandoned")
def never_iterated(stage: BotocoreStage) -> Any:
    looks = kind(method(stage.of(trouble="slow:0.01"), "converse_stream")(**ASK)["stream"])
    gc.collect()
    return looks


@scenario("botocore", "stream: reader stops after the last event")
def stops_at_end(stage: BotocoreStage) -> Any:
    seen: list[Any] = []
    for event in method(stage.of(), "converse_stream")(**ASK)["stream"]:
        seen.append(event)
        if "metadata" in event:
            break
    return seen


def interrupted(opened: Any) -> Any:
    seen: list[Any] = []

    return [tidy(attempt(lambda: seen.extend(opened))), seen]


@scenario("botocore", "stream: error event", "error")
def error_event(stage: BotocoreStage) -> Any:
    return interrupted(method(stage.of(trouble="error_event"), "converse_stream")(**ASK)["stream"])


@scenario("botocore", "stream: server dies", "error")
def stream_dies(stage: BotocoreStage) -> Any:
    return interrupted(method(stage.of(trouble="die"), "converse_stream")(**ASK)["stream"])


# --- InvokeModel ------------------------------------------------------------------------------------
WAYS: Final[dict[str, Callable[[Any], Any]]] = {
    "read": lambda body: body.read(),
    "read in parts": lambda body: list(iter(functools.partial(body.read, 64), b"")),
    "json.load": json.load,
    "iter_chunks": lambda body: list(body.iter_chunks(50)),
    "iter_lines": lambda body: list(body.iter_lines()),
    "iteration": list,
    "read to its length": lambda body: body.read(int(body._content_length)),
    "with": lambda body: read_with(body),
    "BufferedReader": lambda body: io.BufferedReader(body).read(),
}


def read_with(body: Any) -> Any:
    with body as raw:
        return [kind(raw), raw.read()]


def masked(value: Any) -> Any:
    """Bytes without the id of the answer, and as one."""
    if isinstance(value, bytes):
        text = value.decode()
    elif isinstance(value, list):
        parts: list[Any] = [*value]  # pyright: ignore[reportUnknownVariableType]
        if not all(isinstance(part, bytes) for part in parts):
            return [masked(part) for part in parts]
        text = b"".join(parts).decode()
    else:
        return value
    found = json.loads(text)
    found.pop("id", None)
    return [found, len(text)]


def declare_ways() -> None:
    for how, way in WAYS.items():

        def run(stage: BotocoreStage, how: str = how, way: Callable[[Any], Any] = way) -> Any:
            answer = stage.of().invoke_model(**INVOKE)
            body: Any = answer.pop("body")
            if how == "BufferedReader" and not hasattr(body, "readinto"):
                raise NotThere("readinto")
            return [kind(body), tidy(answer), masked(way(body)), body.tell() if how == "read" else None]

        scenario("botocore", f"invoke: {how}")(run)


declare_ways()


@scenario("botocore", "invoke: not read", "abandoned", exact=True)
def not_read(stage: BotocoreStage) -> Any:
    answer = stage.of().invoke_model(**INVOKE)
    answer.pop("body")
    return tidy(answer)


@scenario("botocore", "invoke: closed", "closed_early", exact=True)
def closed(stage: BotocoreStage) -> Any:
    body = stage.of().invoke_model(**INVOKE)["body"]
    return [body.close(), kind(attempt(body.read))]


@scenario("botocore", "invoke: read by a bound method", "ok")
def bound_method(stage: BotocoreStage) -> Any:
    read = stage.of().invoke_model(**INVOKE)["body"].read
    gc.collect()
    return masked(read())


@scenario("botocore", "invoke: body in bytes")
def bytes_body(stage: BotocoreStage) -> Any:
    return masked(stage.of().invoke_model(modelId=MODEL, body=BODY.encode())["body"].read())


@scenario("botocore", "invoke: body in a file")
def file_body(stage: BotocoreStage) -> Any:
    return masked(stage.of().invoke_model(modelId=MODEL, body=io.BytesIO(BODY.encode()))["body"].read())


@scenario("botocore", "invoke: caller's parameters stay")
def parameters_stay(stage: BotocoreStage) -> Any:
    given = copy.deepcopy(INVOKE)
    stage.of().invoke_model(**given)["body"].read()
    return given == INVOKE


@scenario("botocore", "invoke: server dies", "error", exact=True)
def invoke_dies(stage: BotocoreStage) -> Any:
    body = stage.of(trouble="die").invoke_model(**INVOKE)["body"]
    return kind(attempt(body.read))


@scenario("botocore", "invoke: retry 2 × 500", attempts=3)
def invoke_retried(stage: BotocoreStage) -> Any:
    return masked(stage.of(trouble="500x2").invoke_model(**INVOKE)["body"].read())


@scenario("botocore", "invoke: 400", "error")
def invoke_refused(stage: BotocoreStage) -> Any:
    return tidy(attempt(lambda: stage.of(trouble="400").invoke_model(**INVOKE)))


def declare_vendors() -> None:
    for vendor, (model, body) in VENDORS.items():
        ask = {"modelId": model, "body": json.dumps(body)}

        def whole(stage: BotocoreStage, ask: dict[str, Any] = ask) -> Any:
            return masked(stage.of().invoke_model(**ask)["body"].read())

        def streamed(stage: BotocoreStage, ask: dict[str, Any] = ask) -> Any:
            return [payload(event) for event in stage.of().invoke_model_with_response_stream(**ask)["body"]]

        # The unit of pictures and queries is no token.
        tokens = vendor not in ("pictures", "Cohere rerank")
        scenario("botocore", f"invoke: {vendor}", exact=tokens)(whole)
        if vendor in STREAMING:
            scenario("botocore", f"invoke stream: {vendor}")(streamed)


declare_vendors()


@scenario("botocore", "invoke stream")
def invoke_stream(stage: BotocoreStage) -> Any:
    answer = stage.of().invoke_model_with_response_stream(**INVOKE)
    opened = answer.pop("body")
    seen = [payload(event) for event in opened]
    seen[0]["message"].pop("id")
    return [tidy(answer), kind(opened), seen]


@scenario("botocore", "invoke stream: close", "closed_early")
def invoke_stream_closed(stage: BotocoreStage) -> Any:
    opened = stage.of(trouble="slow:0.01").invoke_model_with_response_stream(**INVOKE)["body"]
    first = payload(next(iter(opened)))["type"]
    opened.close()
    return first


# --- what else is metered, and what is not -----------------------------------------------------------
@scenario("botocore", "agent, with a trace")
def agent(stage: BotocoreStage) -> Any:
    client = stage.of("bedrock-agent-runtime")
    if "usage" not in str(client.meta.service_model._shape_resolver._shape_map.get("Metadata")):
        raise NotThere("usage in the trace")
    answer = method(client, "invoke_agent")(**AGENT, enableTrace=True)
    opened = answer.pop("completion")
    return [tidy(answer), kind(opened), list(opened)]


@scenario("botocore", "agent, without a trace", exact=False)
def silent_agent(stage: BotocoreStage) -> Any:
    client = stage.of("bedrock-agent-runtime")
    return list(method(client, "invoke_agent")(**AGENT)["completion"])


@scenario("botocore", "another service", "not metered")
def another_service(stage: BotocoreStage) -> Any:
    return kind(attempt(lambda: stage.of("sqs").list_queues()))
