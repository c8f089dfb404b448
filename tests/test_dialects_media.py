"""Images, audio and realtime in OpenAI's formats."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from dialect_kit import answered, buckets, streamed
from genai_meter.dialects import Reading, by_name
from genai_meter.usage import Usage


def test_images() -> None:
    usage = {"input_tokens": 23, "output_tokens": 1056, "input_tokens_details": {"text_tokens": 3, "image_tokens": 20}}
    drawn: dict[str, Any] = {"data": [{}], "usage": usage | {"total_tokens": 1079}}
    assert buckets("openai_images", drawn) == {"input_text": 3, "input_image": 20, "output_image": 1056}
    assert buckets("openai_images", {"data": [{}, {}]}) == {"images": 2}
    last = {"type": "image_generation.completed", "usage": usage}
    [found] = streamed("openai_images", {"type": "image_generation.partial_image"}, last)[1]
    assert found.buckets == {"input_text": 3, "input_image": 20, "output_image": 1056}
    svg = {"model": "gpt-6", "input_tokens": 9, "output_tokens": 7, "reasoning_tokens": 0, "total_tokens": 16}
    assert answered("openai_images", drawn | {"svg_usage": svg})[1][1] == Usage({"input": 9, "output": 7}, "gpt-6")
    view = by_name("openai_images").request({"model": "gpt-image-2", "prompt": "a cat", "n": 2, "quality": "high"})
    assert (view.output_type, view.choice_count, view.context) == ("image", 2, {"image_quality": "high"})


def test_audio() -> None:
    tokens = {"type": "tokens", "input_tokens": 37, "output_tokens": 12, "total_tokens": 49}
    usage = tokens | {"input_token_details": {"text_tokens": 7, "audio_tokens": 30}}
    expected = {"input_text": 7, "input_audio": 30, "output": 12}
    assert buckets("openai_transcriptions", {"text": "hi", "usage": usage}) == expected
    [found] = streamed("openai_transcriptions", {"type": "transcript.text.done", "text": "hi", "usage": usage})[1]
    assert found.buckets == expected
    assert buckets("openai_transcriptions", {"text": "hi", "usage": {"type": "duration", "seconds": 4}}) == {
        "audio_seconds_in": 4
    }
    assert buckets("openai_translations", {"text": "hi", "duration": "3.25"}) == {"audio_seconds_in": Decimal("3.25")}
    assert answered("openai_transcriptions", "1\n00:00 --> 00:01\nhi")[1] == []


def test_speech_is_billed_by_the_request() -> None:
    speech = by_name("openai_speech")
    view = speech.request({"model": "tts-1", "input": "Hello", "instructions": "softly"})
    assert answered("openai_speech", object(), view)[1] == [Usage({"chars_in": 5})]
    assert speech.usages(Reading(), view) == []  # the call failed: nothing was spoken
    assert answered("openai_speech", object(), speech.request({"model": "gpt-4o-mini-tts", "input": "Hi"}))[1] == []
    usage = {"input_tokens": 5, "output_tokens": 100, "total_tokens": 105}
    [found] = streamed("openai_speech", {"type": "speech.audio.done", "usage": usage})[1]
    assert found.buckets == {"input": 5, "output_audio": 100}


def test_realtime() -> None:
    usage = {
        "total_tokens": 143,
        "input_tokens": 44,
        "output_tokens": 99,
        "input_token_details": {
            "cached_tokens": 10,
            "text_tokens": 14,
            "audio_tokens": 30,
            "cached_tokens_details": {"text_tokens": 4, "audio_tokens": 6},
        },
        "output_token_details": {"text_tokens": 27, "audio_tokens": 72},
    }
    event = {"type": "response.done", "response": {"id": "resp_1", "status": "completed", "usage": usage}}
    reading, [found] = streamed("openai_realtime", {"type": "session.created", "session": {"model": "rt"}}, event)
    assert found.buckets == {
        "cache_read_text": 4,
        "cache_read_audio": 6,
        "input_text": 10,
        "input_audio": 24,
        "output_audio": 72,
        "output_text": 27,
    }
    assert (reading.model, reading.response_id, reading.terminal) == ("rt", "resp_1", True)


def test_recorded_sessions(traffic: Path) -> None:
    """Usage of each answer and transcription of OpenAI's and Azure's recorded sessions."""
    seen = 0
    for line in gzip.decompress((traffic / "extra.dev.jsonl.gz").read_bytes()).splitlines():
        session: dict[str, Any] = json.loads(line)
        if session["kind"] != "websocket" or session["provider"] not in ("openai", "azure.ai.openai"):
            continue
        for truth in session["usage_truth"] or ():
            event = session["events"][truth["event_index"]]["data"]
            if event["type"] == "response.created":
                continue  # told again when done
            seen += 1
            [usage] = streamed("openai_realtime", event)[1]
            told = {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cache_read": usage.cache_read_tokens,
                "reasoning": usage.reasoning_tokens,
                "audio_in": usage.buckets.get("input_audio", 0) + usage.buckets.get("cache_read_audio", 0),
                "audio_out": usage.buckets.get("output_audio", 0),
                "cached_audio": usage.buckets.get("cache_read_audio", 0),
                "audio_seconds": usage.buckets.get("audio_seconds_in", 0),
            }
            assert (session["id"], told) == (session["id"], {name: truth.get(name) or 0 for name in told})
            assert usage.inferred == ()
    assert seen == 33
