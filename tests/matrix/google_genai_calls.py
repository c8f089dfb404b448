"""`google-genai`: the synchronous client."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# ruff: noqa: RET503, PERF401 - loops as callers write them

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .google_genai_stage import ASK, GEMINI, THINKER, GoogleStage, news, read, seen, weather
from .scenario import NotThere, attempt, find, scenario
from .view import kind


@scenario("google_genai", "generate_content")
def generate(stage: GoogleStage) -> Any:
    return seen(stage.client().models.generate_content(model=GEMINI, contents=ASK))


@scenario("google_genai", "generate_content: thoughts, system, parameters")
def generate_more(stage: GoogleStage) -> Any:
    config = {"system_instruction": "Be brief.", "temperature": 0.1, "max_output_tokens": 12, "seed": 3}
    answer = stage.client().models.generate_content(model=f"models/{THINKER}", contents=[ASK, ASK], config=config)
    return [seen(answer), answer.text, config]


@scenario("google_genai", "generate_content: cached content")
def generate_cached(stage: GoogleStage) -> Any:
    config = stage.types.GenerateContentConfig(cached_content="cachedContents/standin")
    return seen(stage.client().models.generate_content(model=GEMINI, contents=ASK, config=config))


@scenario("google_genai", "generate_content: JSON schema")
def generate_json(stage: GoogleStage) -> Any:
    config = {
        "response_mime_type": "application/json",
        "response_schema": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}},
    }
    answer = stage.client().models.generate_content(model=GEMINI, contents=ASK, config=config)
    return [seen(answer), answer.parsed]


@scenario("google_genai", "generate_content: no usage told", exact=False)
def generate_no_usage(stage: GoogleStage) -> Any:
    return seen(stage.client(trouble="no_usage").models.generate_content(model=GEMINI, contents=ASK))


@scenario("google_genai", "generate_content: no id told")
def generate_no_id(stage: GoogleStage) -> Any:
    return seen(stage.client(trouble="no_id").models.generate_content(model=GEMINI, contents=ASK))


@scenario("google_genai", "generate_content: 4 threads, one client", "ok", "ok", "ok", "ok")
def threads(stage: GoogleStage) -> Any:
    models = stage.client().models

    def ask(n: int) -> Any:
        return models.generate_content(model=GEMINI, contents=ASK * n)

    with ThreadPoolExecutor(4) as pool:
        return [seen(answer) for answer in pool.map(ask, range(1, 5))]


@scenario("google_genai", "automatic function calling", "ok", "ok", "ok")
def functions(stage: GoogleStage) -> Any:
    config = stage.types.GenerateContentConfig(tools=[weather, news])
    answer = stage.client().models.generate_content(model=GEMINI, contents=ASK, config=config)
    return [answer.text, len(answer.automatic_function_calling_history)]


@scenario("google_genai", "chat", "ok", "ok")
def chat(stage: GoogleStage) -> Any:
    session = stage.client().chats.create(model=GEMINI)
    return [seen(session.send_message(ASK)), seen(session.send_message("And then?"))]


@scenario("google_genai", "chat: stream")
def chat_stream(stage: GoogleStage) -> Any:
    return read(stage.client().chats.create(model=GEMINI).send_message_stream(ASK))


@scenario("google_genai", "stream")
def stream(stage: GoogleStage) -> Any:
    return read(stage.client().models.generate_content_stream(model=THINKER, contents=ASK))


@scenario("google_genai", "stream: no usage told", exact=False)
def stream_no_usage(stage: GoogleStage) -> Any:
    return read(stage.client(trouble="no_usage").models.generate_content_stream(model=GEMINI, contents=ASK))


@scenario("google_genai", "stream: reader stops after the last chunk")
def stream_stops(stage: GoogleStage) -> Any:
    texts = []
    chunks = stage.client().models.generate_content_stream(model=GEMINI, contents=ASK)
    for chunk in chunks:
        texts.append(chunk.text)
        if chunk.candidates[0].finish_reason is not None:
            break
    del chunks
    return texts


@scenario("google_genai", "stream: reader leaves", "closed_early")
def stream_leaves(stage: GoogleStage) -> Any:
    for chunk in stage.client().models.generate_content_stream(model=GEMINI, contents=ASK):
        return chunk.text


@scenario("google_genai", "stream: close()", "closed_early")
def stream_closed(stage: GoogleStage) -> Any:
    chunks = stage.client().models.generate_content_stream(model=GEMINI, contents=ASK)
    first = next(chunks)
    chunks.close()
    return [first.text, list(chunks)]


@scenario("google_genai", "stream: dropped", "closed_early")
def stream_dropped(stage: GoogleStage) -> Any:
    chunks = stage.client().models.generate_content_stream(model=GEMINI, contents=ASK)
    next(chunks)
    del chunks
    gc.collect()
    return "dropped"


@scenario("google_genai", "stream: never read", "not metered")
def stream_unread(stage: GoogleStage) -> Any:
    return kind(stage.client().models.generate_content_stream(model=GEMINI, contents=ASK))


@scenario("google_genai", "stream: the caller throws into it", "closed_early")
def stream_thrown(stage: GoogleStage) -> Any:
    chunks = stage.client().models.generate_content_stream(model=GEMINI, contents=ASK)
    next(chunks)
    return [attempt(lambda: chunks.throw(KeyError("mine"))), list(chunks)]


@scenario("google_genai", "stream: error in it", "error")
def stream_error(stage: GoogleStage) -> Any:
    texts = []
    client = stage.client(trouble="error_event")

    def all_of() -> None:
        for chunk in client.models.generate_content_stream(model=GEMINI, contents=ASK):
            texts.append(chunk.text)

    return [attempt(all_of), texts]


@scenario("google_genai", "stream: server dies in it", "error")
def stream_dies(stage: GoogleStage) -> Any:
    texts = []
    client = stage.client(trouble="die")

    def all_of() -> None:
        for chunk in client.models.generate_content_stream(model=GEMINI, contents=ASK):
            texts.append(chunk.text)

    return [attempt(all_of), texts]


@scenario("google_genai", "stream: automatic function calling", "ok", "ok", "ok")
def stream_functions(stage: GoogleStage) -> Any:
    config = stage.types.GenerateContentConfig(tools=[weather, news])
    chunks = stage.client().models.generate_content_stream(model=GEMINI, contents=ASK, config=config)
    # The first versions raise where a chunk has no text.
    texts = [chunk.candidates[0].content.parts[0].text for chunk in chunks]
    if len(stage.provider.attempts) < 3:
        raise NotThere("function calling in streams, as far as it is needed")
    return texts


@scenario("google_genai", "error: 400", "error")
def refused(stage: GoogleStage) -> Any:
    return stage.client(trouble="400").models.generate_content(model=GEMINI, contents=ASK)


@scenario("google_genai", "error: 429 to a stream", "error")
def refused_stream(stage: GoogleStage) -> Any:
    return read(stage.client(trouble="429").models.generate_content_stream(model=GEMINI, contents=ASK))


@scenario("google_genai", "error: 503 and no retry", "error")
def broken(stage: GoogleStage) -> Any:
    return attempt(lambda: stage.client(trouble="503").models.generate_content(model=GEMINI, contents=ASK))


@scenario("google_genai", "error: server dies before the answer", "error")
def dies(stage: GoogleStage) -> Any:
    return attempt(lambda: stage.client(trouble="die_before").models.generate_content(model=GEMINI, contents=ASK))


@scenario("google_genai", "error: a configuration the library refuses", "not metered")
def nonsense(stage: GoogleStage) -> Any:
    models, config = stage.client().models, {"no_such_field": 1}
    return attempt(lambda: kind(models.generate_content(model=GEMINI, contents=ASK, config=config)))


@scenario("google_genai", "retry: third time", attempts=3)
def retried(stage: GoogleStage) -> Any:
    client = stage.client(attempts=4, trouble="500x2")
    return seen(client.models.generate_content(model=GEMINI, contents=ASK))


@scenario("google_genai", "retry: stream, second time", attempts=2)
def retried_stream(stage: GoogleStage) -> Any:
    return read(stage.client(attempts=3, trouble="429x1").models.generate_content_stream(model=GEMINI, contents=ASK))


@scenario("google_genai", "retry: in vain", "error", attempts=2)
def retried_in_vain(stage: GoogleStage) -> Any:
    client = stage.client(attempts=2, trouble="503")
    return attempt(lambda: client.models.generate_content(model=GEMINI, contents=ASK))


@scenario("google_genai", "embeddings")
def embed(stage: GoogleStage) -> Any:
    return seen(stage.client().models.embed_content(model="gemini-embedding-001", contents=["north", "south"]))


@scenario("google_genai", "vertex: embeddings")
def embed_vertex(stage: GoogleStage) -> Any:
    return seen(stage.vertex().models.embed_content(model="text-embedding-005", contents=["north", "south"]))


@scenario("google_genai", "vertex: generate_content")
def generate_vertex(stage: GoogleStage) -> Any:
    return seen(stage.vertex().models.generate_content(model=GEMINI, contents=ASK))


@scenario("google_genai", "vertex: a tuned model on its endpoint")
def generate_endpoint(stage: GoogleStage) -> Any:
    model = "projects/standin/locations/europe-west4/endpoints/123"
    return seen(stage.vertex().models.generate_content(model=model, contents=ASK))


@scenario("google_genai", "vertex: stream")
def stream_vertex(stage: GoogleStage) -> Any:
    return read(stage.vertex().models.generate_content_stream(model=GEMINI, contents=ASK))


@scenario("google_genai", "vertex: images", exact=False)
def images(stage: GoogleStage) -> Any:
    config = {"number_of_images": 2}
    return stage.vertex().models.generate_images(model="imagen-4.0-generate-001", prompt=ASK, config=config)


@scenario("google_genai", "vertex: the order of a video", exact=False)
def video(stage: GoogleStage) -> Any:
    return find(stage.vertex(), "models.generate_videos")(model="veo-3.0-generate-001", prompt=ASK)


@scenario("google_genai", "count_tokens", "not metered")
def count_tokens(stage: GoogleStage) -> Any:
    return seen(stage.client().models.count_tokens(model=GEMINI, contents=ASK))


@scenario("google_genai", "caches.create", "not metered")
def cache(stage: GoogleStage) -> Any:
    return attempt(lambda: seen(stage.client().caches.create(model=GEMINI, config={"contents": ASK})))


@scenario("google_genai", "models.list", "not metered")
def models(stage: GoogleStage) -> Any:
    return attempt(lambda: kind(stage.client().models.list()))
