"""`openai`: everything that is no stream, synchronously."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false, reportMissingTypeArgument=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

from .scenario import MESSAGES, MODEL, Stage, attempt, find, scenario, trouble
from .view import kind

CHAT: Any = {"model": MODEL, "messages": MESSAGES}
WAV = b"RIFF" + bytes(3000)


def answer_format() -> Any:
    from pydantic import BaseModel

    class Answer(BaseModel):
        shelf: int
        name: str

    return Answer


@scenario("openai", "chat")
def chat(stage: Stage) -> Any:
    return stage.client().chat.completions.create(**CHAT)


@scenario("openai", "chat: extra_body wins")
def chat_extra_body(stage: Stage) -> Any:
    return stage.client().chat.completions.create(**CHAT, max_tokens=400, extra_body={"max_tokens": 3, "custom": [1]})


@scenario("openai", "chat: caller's arguments are not touched", exact=True)
def chat_arguments(stage: Stage) -> Any:
    messages, extra, headers = copy.deepcopy(MESSAGES), {"metadata": {"a": "b"}}, {"x-mine": "1"}
    stage.client().chat.completions.create(model=MODEL, messages=messages, extra_body=extra, extra_headers=headers)
    return [messages, extra, headers]


@scenario("openai", "chat: pickle and deepcopy of the answer")
def chat_copies(stage: Stage) -> Any:
    answer = stage.client().chat.completions.create(**CHAT)
    return [pickle.loads(pickle.dumps(answer)) == answer, copy.deepcopy(answer) == answer, copy.deepcopy(answer)]


@scenario("openai", "parse")
def parse(stage: Stage) -> Any:
    method = find(stage.client(), "chat.completions.parse", "beta.chat.completions.parse")
    answer = method(**CHAT, response_format=answer_format())
    return [answer.choices[0].message.content, repr(answer.choices[0].message.parsed), answer.usage]


@scenario("openai", "parse: cut short", "error|ok", exact=True)
def parse_cut(stage: Stage) -> Any:
    method = find(stage.client(), "chat.completions.parse", "beta.chat.completions.parse")
    return method(**CHAT, extra_body={"response_format": None, "max_tokens": 2}, response_format=answer_format())


@scenario("openai", "parse: answer does not fit", "error|ok", exact=True)
def parse_misfit(stage: Stage) -> Any:
    method = find(stage.client(), "chat.completions.parse", "beta.chat.completions.parse")
    # The server does not know our schema: its text is no JSON.
    return method(**CHAT, extra_body={"response_format": None}, response_format=answer_format())


@scenario("openai", "raw: parse")
def raw_parse(stage: Stage) -> Any:
    raw = stage.client().chat.completions.with_raw_response.create(**CHAT)
    parsed = raw.parse()
    same = raw.parse() is parsed
    return [kind(raw), raw.status_code, raw.headers.get("x-request-id"), raw.text, parsed, same, raw.is_closed]


@scenario("openai", "raw: never parsed")
def raw_text(stage: Stage) -> Any:
    raw = stage.client().chat.completions.with_raw_response.create(**CHAT)
    return [raw.text, raw.content, raw.http_response.json()]


@scenario("openai", "raw: the response pickles")
def raw_pickle(stage: Stage) -> Any:
    raw = stage.client().chat.completions.with_raw_response.create(**CHAT)
    again = pickle.loads(pickle.dumps(raw.http_response))
    return [again.json(), sorted(vars(raw.http_response))]


@scenario("openai", "retry: 2 × 500", attempts=3)
def retry(stage: Stage) -> Any:
    return stage.client().chat.completions.create(**CHAT, **trouble("500x2"))


@scenario("openai", "retry: 2 × 500, raw", attempts=3)
def retry_raw(stage: Stage) -> Any:
    raw = stage.client().chat.completions.with_raw_response.create(**CHAT, **trouble("500x2"))
    return [getattr(raw, "retries_taken", None), raw.parse()]


@scenario("openai", "retry: all fail", "error", attempts=3)
def retry_fails(stage: Stage) -> Any:
    return stage.client().chat.completions.create(**CHAT, **trouble("503"))


@scenario("openai", "error: 400", "error")
def bad_request(stage: Stage) -> Any:
    return stage.client().chat.completions.create(**CHAT, **trouble("400"))


@scenario("openai", "error: 429", "error")
def rate_limit(stage: Stage) -> Any:
    return stage.client(max_retries=0).chat.completions.create(**CHAT, **trouble("429"))


@scenario("openai", "error: no connection", "error")
def no_connection(stage: Stage) -> Any:
    client = stage.client(base_url="http://127.0.0.1:9/v1", max_retries=0)
    return client.chat.completions.create(**CHAT)


@scenario("openai", "error: no connection, retried", "error", attempts=2)
def no_connection_retried(stage: Stage) -> Any:
    client = stage.client(base_url="http://127.0.0.1:9/v1", max_retries=1)
    return client.chat.completions.create(**CHAT)


@scenario("openai", "error: server dies before it answers", "error")
def server_dies_before(stage: Stage) -> Any:
    return stage.client(max_retries=0).chat.completions.create(**CHAT, **trouble("die_before"))


@scenario("openai", "error: server dies in the answer", "error")
def server_dies(stage: Stage) -> Any:
    return stage.client(max_retries=0).chat.completions.create(**CHAT, **trouble("die"))


@scenario("openai", "error: timeout", "error")
def timeout(stage: Stage) -> Any:
    client = stage.client(max_retries=0, timeout=0.2)
    return client.chat.completions.create(**CHAT, **trouble("slow:9"))


@scenario("openai", "error: nothing sent", "not metered")
def nothing_sent(stage: Stage) -> Any:
    return stage.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": object()}])


@scenario("openai", "error: wrong arguments", "not metered")
def wrong_arguments(stage: Stage) -> Any:
    return stage.client().chat.completions.create(model=MODEL)


@scenario("openai", "responses")
def responses(stage: Stage) -> Any:
    return find(stage.client(), "responses.create")(model=MODEL, input="Where to?")


@scenario("openai", "responses: parse")
def responses_parse(stage: Stage) -> Any:
    answer = find(stage.client(), "responses.parse")(model=MODEL, input="Where to?", text_format=answer_format())
    return [repr(answer.output_parsed), answer.usage]


@scenario("openai", "responses: raw")
def responses_raw(stage: Stage) -> Any:
    method = find(stage.client(), "responses.with_raw_response.create")
    return method(model=MODEL, input="Where to?").parse()


@scenario("openai", "responses: background", exact=False)
def responses_background(stage: Stage) -> Any:
    responses = find(stage.client(), "responses")
    begun = responses.create(model=MODEL, input="Where to?", extra_body={"background": True})
    return [begun, responses.retrieve(begun.id)]


@scenario("openai", "embeddings")
def embeddings(stage: Stage) -> Any:
    return stage.client().embeddings.create(model="text-embedding-3-small", input=["north", "south"])


@scenario("openai", "embeddings: raw")
def embeddings_raw(stage: Stage) -> Any:
    method = stage.client().embeddings.with_raw_response.create
    return method(model="text-embedding-3-small", input="north", encoding_format="float").parse()


@scenario("openai", "moderation")
def moderation(stage: Stage) -> Any:
    return stage.client().moderations.create(input="north")


@scenario("openai", "image")
def image(stage: Stage) -> Any:
    return stage.client().images.generate(model="gpt-image-1.5", prompt="a shelf", n=2)


@scenario("openai", "image: edit")
def image_edit(stage: Stage) -> Any:
    return stage.client().images.edit(model="gpt-image-1.5", prompt="a shelf", image=("a.png", WAV))


@scenario("openai", "speech")
def speech(stage: Stage) -> Any:
    answer = stage.client().audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="Go north.")
    return [kind(answer), answer.read()]


@scenario("openai", "speech: streaming response")
def speech_streamed(stage: Stage) -> Any:
    method = stage.client().audio.speech.with_streaming_response.create
    with method(model="gpt-4o-mini-tts", voice="alloy", input="Go north.") as answer:
        return [kind(answer), b"".join(answer.iter_bytes())]


@scenario("openai", "transcription")
def transcription(stage: Stage) -> Any:
    return stage.client().audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", WAV))


@scenario("openai", "transcription: as text")
def transcription_text(stage: Stage) -> Any:
    method = stage.client().audio.transcriptions.create
    return method(model="whisper-1", file=("a.wav", WAV), response_format="text")


@scenario("openai", "legacy completions")
def completions(stage: Stage) -> Any:
    return stage.client().completions.create(model="gpt-3.5-turbo-instruct", prompt="North or")


@scenario("openai", "list of models", "not metered")
def models(stage: Stage) -> Any:
    return [model.id for model in stage.client().models.list()]


@scenario("openai", "client.post")
def client_post(stage: Stage) -> Any:
    return stage.client().post("/chat/completions", body=CHAT, cast_to=object)


@scenario("openai", "client.post: whole URL")
def client_post_url(stage: Stage) -> Any:
    return stage.client().post(f"{stage.base_url}/chat/completions", body=CHAT, cast_to=object)


@scenario("openai", "client.post: HTTP response")
def client_post_http(stage: Stage) -> Any:
    answer = stage.client().post("/chat/completions", body=CHAT, cast_to=stage.httpx.Response)
    return [kind(answer), answer.json(), answer.is_closed]


@scenario("openai", "client.post: unknown path", "not metered")
def client_post_unknown(stage: Stage) -> Any:
    return stage.client(max_retries=0).post("/nothing/here", body={"a": 1}, cast_to=object)


@scenario("openai", "with_options and copy", "ok", "ok")
def copies(stage: Stage) -> Any:
    client = stage.client()
    first = client.with_options(timeout=5).chat.completions.create(**CHAT)
    return [first, client.copy(max_retries=1).chat.completions.create(**CHAT)]


@scenario("openai", "Azure")
def azure(stage: Stage) -> Any:
    client = stage.library.AzureOpenAI(azure_endpoint=stage.provider.url, api_key="k", api_version="2025-01-01-preview")
    return client.chat.completions.create(**CHAT)


@scenario("openai", "Azure: deployment in the client")
def azure_deployment(stage: Stage) -> Any:
    client = stage.library.AzureOpenAI(
        azure_endpoint=stage.provider.url, azure_deployment="mine", api_key="k", api_version="2025-01-01-preview"
    )
    return client.chat.completions.create(**CHAT)


@scenario("openai", "module-level client")
def module_client(stage: Stage) -> Any:
    stage.library.api_key, stage.library.base_url = "sk-test", f"{stage.base_url}/"
    return stage.library.chat.completions.create(**CHAT)


@scenario("openai", "method bound before the call")
def bound_method(stage: Stage) -> Any:
    create = stage.client().chat.completions.create
    return create(**CHAT)


@scenario("openai", "threads", *["ok"] * 40)
def threads(stage: Stage) -> Any:
    client, contents = stage.client(), []

    def work() -> None:
        for _ in range(5):
            contents.append(client.chat.completions.create(**CHAT).choices[0].message.content)
            parts = client.chat.completions.create(**CHAT, stream=True)
            contents.append("".join(part.choices[0].delta.content or "" for part in parts))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sorted(contents)


@scenario("openai", "custom transport raises", "error")
def transport_raises(stage: Stage) -> Any:
    class Broken(stage.httpx.BaseTransport):
        def handle_request(self, request: Any) -> Any:
            raise ZeroDivisionError("mine")

    client = stage.client(max_retries=0, http_client=stage.httpx.Client(transport=Broken()))
    return attempt(lambda: client.chat.completions.create(**CHAT))


@scenario("openai", "a client inside a client's request")
def nested(stage: Stage) -> Any:
    """A transport that is a bridge to another client: one provider call, one record."""
    inner, httpx = stage.client(), stage.httpx

    class Bridge(httpx.BaseTransport):
        def handle_request(self, request: Any) -> Any:
            answer = inner.chat.completions.with_raw_response.create(**CHAT)
            return httpx.Response(200, content=answer.content, headers={"content-type": "application/json"})

    client = stage.client(http_client=httpx.Client(transport=Bridge()))
    return client.chat.completions.create(**CHAT)
