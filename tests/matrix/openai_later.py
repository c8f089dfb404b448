"""`openai`: background responses, which are charged when somebody sees that they are over."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeArgument=false, reportPossiblyUnboundVariable=false

from __future__ import annotations

from typing import Any

from .scenario import MODEL, Stage, find, scenario

ASK: Any = {"model": MODEL, "input": "Where to?", "extra_body": {"background": True}}


@scenario("openai", "responses: background, polled", exact=False)
def polled(stage: Stage) -> Any:
    responses = find(stage.client(), "responses")
    order = responses.create(**ASK, metadata={"polls": "2"})
    return [order, *[responses.retrieve(order.id) for _ in range(4)]]


@scenario("openai", "responses: background, never asked for", "not metered")
def ordered(stage: Stage) -> Any:
    return find(stage.client(), "responses").create(**ASK)


@scenario("openai", "responses: background, failed", "error", exact=False)
def failed(stage: Stage) -> Any:
    responses = find(stage.client(), "responses")
    return responses.retrieve(responses.create(**ASK, metadata={"end": "failed"}).id)


@scenario("openai", "responses: background, raw", exact=False)
def raw(stage: Stage) -> Any:
    responses = find(stage.client(), "responses")
    answer = responses.with_raw_response.retrieve(responses.create(**ASK).id)
    return [answer.status_code, answer.parse() is answer.parse(), answer.parse()]


@scenario("openai", "responses: background, streaming response", exact=False)
def streaming_response(stage: Stage) -> Any:
    responses = find(stage.client(), "responses")
    with responses.with_streaming_response.retrieve(responses.create(**ASK).id) as answer:
        return answer.parse()


@scenario("openai", "responses: background stream", exact=False)
def stream(stage: Stage) -> Any:
    return list(find(stage.client(), "responses").create(**ASK, stream=True))


@scenario("openai", "responses: background stream, left and never asked for", "not metered")
def stream_left(stage: Stage) -> Any:
    with find(stage.client(), "responses").create(**ASK, stream=True) as events:
        return next(iter(events))


@scenario("openai", "responses: stored, retrieved twice", exact=False)
def stored(stage: Stage) -> Any:
    responses = find(stage.client(), "responses")
    made = responses.create(model=MODEL, input="Where to?")
    return [made, responses.retrieve(made.id), responses.retrieve(made.id)]


@scenario("openai", "responses: background, refused", "error", exact=False)
def refused(stage: Stage) -> Any:
    from .scenario import attempt

    responses = find(stage.client(max_retries=0), "responses")
    return attempt(lambda: responses.create(**ASK, extra_headers={"x-scenario": "400"}))


@scenario("openai", "async responses: background, polled", exact=False)
async def polled_async(stage: Stage) -> Any:
    async with stage.async_client() as client:
        responses = find(client, "responses")
        order = await responses.create(**ASK, metadata={"polls": "1"})
        return [order, *[await responses.retrieve(order.id) for _ in range(3)]]
