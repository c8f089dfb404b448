"""The stand-in provider, asked by the real client libraries."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from examples.provider import Provider

PROMPT = "How many shelves are still empty?"  # 33 characters: 9 tokens


def openai_client(p: Provider, scenario: str = "") -> openai.OpenAI:
    return openai.OpenAI(base_url=p.url + "/v1", api_key="any", default_headers={"x-scenario": scenario})


def anthropic_client(p: Provider, scenario: str = "") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=p.url, api_key="any", default_headers={"x-scenario": scenario})


def user(text: str = PROMPT) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_chat_counts_four_characters_a_token_and_one_word_a_token(provider: Provider) -> None:
    with openai_client(provider) as client:
        answer = client.chat.completions.create(model="gpt-4.1-mini", messages=user(), max_tokens=5, n=2)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (9, 10, 19)
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.model == "gpt-4.1-mini-2025-04-14"
    [served] = provider.served
    assert (served.api, served.path, served.completed) == ("chat", "/v1/chat/completions", True)
    assert served.response_id == answer.id
    assert served.usage == answer.usage.to_dict()


def test_chat_stream_tells_usage_only_when_asked(provider: Provider) -> None:
    with openai_client(provider) as client:
        plain = list(client.chat.completions.create(model="gpt-4o-mini", messages=user(), stream=True))
        asked = list(
            client.chat.completions.create(
                model="gpt-4o-mini", messages=user(), stream=True, stream_options={"include_usage": True}
            )
        )
    assert "usage" not in plain[0].model_fields_set
    assert "usage" in asked[0].model_fields_set
    assert asked[0].usage is None
    assert asked[-1].choices == []
    assert asked[-1].usage is not None
    text = "".join(chunk.choices[0].delta.content or "" for chunk in plain)
    assert asked[-1].usage.completion_tokens == len(text.split(" "))
    first, second = provider.served
    assert first.usage is None
    assert second.usage == asked[-1].usage.to_dict()


def test_chat_reasons_and_reads_long_system_prompts_from_the_cache(provider: Provider) -> None:
    system: Any = {"role": "system", "content": "x" * 4 * 1300}
    with openai_client(provider) as client:
        answer = client.chat.completions.create(
            model="gpt-5.2", messages=[system, *user()], reasoning_effort="low", max_completion_tokens=40
        )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 40
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 32
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 1280
    assert answer.usage.prompt_tokens == 1309


class Place(BaseModel):
    city: str
    floor: int


def test_tools_and_structured_outputs(provider: Provider) -> None:
    tool: Any = {"type": "function", "function": {"name": "stock", "parameters": Place.model_json_schema()}}
    with openai_client(provider) as client:
        called = client.chat.completions.create(model="gpt-4o", messages=user(), tools=[tool])
        parsed = client.chat.completions.parse(model="gpt-4o", messages=user(), response_format=Place)
        with client.chat.completions.stream(model="gpt-4o", messages=user(), tools=[tool]) as stream:
            streamed = stream.get_final_completion()
        response = client.responses.parse(model="gpt-4o", input=PROMPT, text_format=Place)
    assert called.choices[0].message.tool_calls is not None
    arguments = called.choices[0].message.tool_calls[0].to_dict()["function"]
    assert arguments == {"name": "stock", "arguments": '{"city": "north", "floor": 7}'}
    assert streamed.choices[0].message.tool_calls is not None
    assert streamed.choices[0].message.tool_calls[0].function.arguments == '{"city": "north", "floor": 7}'
    assert parsed.choices[0].message.parsed == Place(city="north", floor=7)
    assert response.output_parsed == Place(city="north", floor=7)


def test_responses_buffered_streamed_and_in_the_background(provider: Provider) -> None:
    with openai_client(provider) as client:
        whole = client.responses.create(model="gpt-4.1", input=PROMPT)
        events = list(client.responses.create(model="gpt-4.1", input=PROMPT, stream=True))
        with client.responses.stream(model="gpt-4.1", input=PROMPT) as stream:
            helped = stream.get_final_response()
        cut = client.responses.create(model="o4-mini", input=PROMPT, max_output_tokens=70)
        queued = client.responses.create(model="gpt-4.1", input=PROMPT, background=True)
        done = client.responses.retrieve(queued.id)
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert (queued.status, queued.usage) == ("queued", None)
    assert done.usage == whole.usage
    assert helped.usage == whole.usage
    assert cut.status == "incomplete"
    assert cut.usage is not None
    assert (cut.usage.output_tokens, cut.usage.output_tokens_details.reasoning_tokens) == (70, 64)
    assert [served.api for served in provider.served] == ["responses"] * 5


def test_embeddings_moderations_images_and_legacy_completions(provider: Provider) -> None:
    with openai_client(provider) as client:
        floats = client.embeddings.create(
            model="text-embedding-3-small", input=["abcd", "abcdefgh"], encoding_format="float"
        )
        packed = client.embeddings.create(model="text-embedding-3-small", input=[[1, 2, 3]])
        checked = client.moderations.create(input=PROMPT)
        image = client.images.generate(model="gpt-image-1.5", prompt=PROMPT, quality="low", n=2)
        legacy = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=PROMPT, max_tokens=4)
        names = [model.id for model in client.models.list()]
    assert (floats.usage.prompt_tokens, packed.usage.prompt_tokens) == (3, 3)
    assert packed.data[0].embedding == pytest.approx(floats.data[0].embedding)
    assert checked.results[0].categories.harassment_threatening is False
    assert image.usage is not None
    assert (image.usage.input_tokens, image.usage.output_tokens) == (9, 544)
    assert legacy.usage is not None
    assert (legacy.usage.prompt_tokens, legacy.usage.completion_tokens) == (9, 4)
    assert "gpt-5.2" in names
    assert [s.api for s in provider.served] == ["embeddings", "embeddings", "moderations", "images", "completions"]


def test_audio(provider: Provider) -> None:
    def sound() -> io.BytesIO:
        file = io.BytesIO(bytes(2500))
        file.name = "sound.wav"
        return file

    with openai_client(provider) as client:
        spoken = client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input=PROMPT).read()
        heard = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=sound())
        timed = client.audio.transcriptions.create(model="whisper-1", file=sound())
        text = client.audio.transcriptions.create(model="whisper-1", file=sound(), response_format="text")
    assert len(spoken) == 4 + 16 * len(PROMPT)
    assert heard.usage is not None
    assert heard.usage.to_dict()["input_tokens"] == 25
    assert timed.usage is not None
    assert timed.usage.to_dict() == {"type": "duration", "seconds": 3}
    assert text == heard.text + "\n"


def test_azure_serves_the_model_behind_a_deployment(provider: Provider) -> None:
    client = openai.AzureOpenAI(azure_endpoint=provider.url, api_key="any", api_version="2025-04-01-preview")
    with client:
        chunks = list(client.chat.completions.create(model="team-blue", messages=user(), stream=True))
    assert chunks[0].choices == []
    assert chunks[-1].model == "gpt-4.1-mini-2025-04-14"
    assert provider.served[0].path == "/openai/deployments/team-blue/chat/completions"


def test_messages_write_the_cache_once_and_read_it_afterwards(provider: Provider) -> None:
    system: Any = [
        {"type": "text", "text": "x" * 8000, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "y" * 4000, "cache_control": {"type": "ephemeral"}},
    ]
    with anthropic_client(provider) as client:
        first, again = (
            client.messages.create(model="claude-haiku-4-5", max_tokens=6, system=system, messages=user())
            for _ in range(2)
        )
        counted = client.messages.count_tokens(model="claude-haiku-4-5", system=system, messages=user())
    assert first.usage.cache_creation is not None
    assert first.usage.cache_creation.to_dict() == {
        "ephemeral_5m_input_tokens": 1000,
        "ephemeral_1h_input_tokens": 2000,
    }
    assert (first.usage.input_tokens, first.usage.cache_read_input_tokens, first.usage.output_tokens) == (9, 0, 6)
    assert (again.usage.cache_creation_input_tokens, again.usage.cache_read_input_tokens) == (0, 3000)
    assert first.stop_reason == "max_tokens"
    assert counted.input_tokens == 3009
    assert [served.api for served in provider.served] == ["messages", "messages"]


def test_message_stream_equals_the_whole_message(provider: Provider) -> None:
    tool: Any = {"name": "stock", "input_schema": Place.model_json_schema()}
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    with anthropic_client(provider) as client:
        whole = client.messages.create(model="claude-haiku-4-5", max_tokens=2000, messages=user(), thinking=thinking)
        with client.messages.stream(
            model="claude-haiku-4-5", max_tokens=2000, messages=user(), thinking=thinking
        ) as stream:
            streamed = stream.get_final_message()
        with client.messages.stream(model="claude-haiku-4-5", max_tokens=2000, messages=user(), tools=[tool]) as stream:
            called = stream.get_final_message()
        events = [
            event.type
            for event in client.messages.create(model="claude-haiku-4-5", max_tokens=2000, messages=user(), stream=True)
        ]
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content]
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert whole.usage.output_tokens_details is not None
    assert whole.usage.output_tokens_details.thinking_tokens == 22
    assert called.stop_reason == "tool_use"
    assert called.content[0].to_dict()["input"] == {"city": "north", "floor": 7}
    assert (events[0], events[-2], events[-1]) == ("message_start", "message_delta", "message_stop")


def test_statuses_are_refused_as_often_as_asked(provider: Provider) -> None:
    with openai_client(provider, "500x2") as client:
        assert client.chat.completions.create(model="gpt-4o", messages=user()).usage is not None
    with anthropic_client(provider, "529x1") as client:
        assert client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=user()).usage
    assert [attempt.status for attempt in provider.attempts] == [500, 500, 200, 529, 200]
    with openai_client(provider, "429") as client, pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="gpt-4o", messages=user())
    with anthropic_client(provider, "400") as client, pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=user())
    assert refused.value.message.endswith("'request_id': 'req_standin'}")
    assert len(provider.served) == 2


def test_a_server_that_dies(provider: Provider) -> None:
    with openai_client(provider, "die") as client:
        stream = client.chat.completions.create(model="gpt-4o", messages=user(), stream=True)
        with pytest.raises(openai.APIError):
            list(stream)
    with openai_client(provider, "die_before").with_options(max_retries=0) as client, pytest.raises(openai.APIError):
        client.chat.completions.create(model="gpt-4o", messages=user())
    with anthropic_client(provider, "error_event") as client:
        messages = client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=user(), stream=True)
        with pytest.raises(anthropic.APIStatusError):
            list(messages)
    assert [served.completed for served in provider.served] == [False, False]
    assert [attempt.status for attempt in provider.attempts] == [200, 0, 200]


def test_ids_and_usage_can_be_withheld(provider: Provider) -> None:
    def ask(scenario: str) -> Any:
        with openai_client(provider, scenario) as client:
            return client.chat.completions.create(model="gpt-4o", messages=user()).to_dict()

    assert "id" not in ask("no_id")
    assert "usage" not in ask("no_usage")
    assert ask("same_id")["id"] == ask("same_id")["id"] == "chatcmpl-repeated"
    assert provider.served[0].response_id is None
    assert provider.served[1].usage is None
    with openai_client(provider, "reject_stream_options") as client, pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="gpt-4o", messages=user(), stream=True, stream_options={"include_usage": True}
        )


async def test_two_hundred_streams_at_once(provider: Provider) -> None:
    async with openai.AsyncOpenAI(
        base_url=provider.url + "/v1", api_key="any", default_headers={"x-scenario": "slow:0.02"}
    ) as client:

        async def one() -> str:
            stream = await client.chat.completions.create(model="any-model", messages=user(), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        texts = await asyncio.gather(*(one() for _ in range(200)))
    assert len(set(texts)) == 1
    assert len({served.response_id for served in provider.served}) == 200
    assert all(served.completed and served.model == "any-model" for served in provider.served)
    provider.reset()
    assert (provider.served, provider.attempts) == ([], [])
