"""Request options that the caller made by hand, and uses again: the seam works on a copy of its own."""

from __future__ import annotations

from typing import Any

import openai
from emission_kit import metered
from genai_meter import emit
from genai_meter.instrumentor import OpenAIInstrumentor
from openai._models import FinalRequestOptions
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from examples.provider import Provider

ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Where to?"}]}


def _state(options: FinalRequestOptions) -> tuple[dict[str, Any], dict[str, int], set[str]]:
    fields: dict[str, Any] = vars(options)
    return dict(fields), {name: id(value) for name, value in fields.items()}, set(options.model_fields_set)


def test_options_of_the_caller_stay_as_they_are(provider: Provider) -> None:
    parsed: list[object] = []

    def parse(answer: Any) -> Any:
        parsed.append(answer)
        return answer

    options = FinalRequestOptions(
        method="post", url="/chat/completions", json_data=ASK, extra_json={"temperature": 0}, post_parser=parse
    )
    before = _state(options)
    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test")
    with metered(OpenAIInstrumentor) as telemetry, client:
        first = client.request(ChatCompletion, options)
        second = client.request(ChatCompletion, options)
        stream = client.request(
            ChatCompletion,
            FinalRequestOptions(method="post", url="/chat/completions", json_data={**ASK, "stream": True}),
            stream=True,
            stream_cls=openai.Stream[ChatCompletionChunk],
        )
        chunks = list(stream)
        emit.flush()
    assert _state(options) == before
    assert parsed == [first, second]
    assert [event.attributes["gen_ai.response.id"] for event in telemetry.events] == [first.id, second.id, chunks[0].id]
    assert len(telemetry.spans) == 3
