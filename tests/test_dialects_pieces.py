"""`Dialect.piece`: what it matches is a piece of text, told again by `chunk`, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from genai_meter.dialects import by_name
from genai_meter.dialects.base import Reading
from hypothesis import given
from hypothesis import strategies as st


def mistral(content: Any, **choice: Any) -> dict[str, Any]:
    one = {"index": 0, "delta": {"content": content}, "finish_reason": None, **choice}
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "mistral-small-latest"}
    return {**head, "choices": [one]}


def cohere(content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": content}}}, **more}


FORMATS: dict[str, Callable[..., dict[str, Any]]] = {"mistral_chat": mistral, "cohere": cohere}


def line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("name", FORMATS)
@given(said=st.text())
def test_a_piece_is_its_text_and_nothing_else(name: str, said: str) -> None:
    dialect, event = by_name(name), FORMATS[name](said.encode(errors="replace").decode())
    reading = Reading()
    dialect.chunk(reading, event)
    before = replace(reading, output_chars=0)
    reading.output_chars = 0
    dialect.chunk(reading, event)
    assert dialect.piece is not None
    found = dialect.piece.fullmatch(line(event))
    if found is not None:
        assert reading == replace(before, output_chars=len(found[1].decode()))
    else:
        assert set(json.dumps(said)) & {"\\"}, "only what is escaped needs to be parsed"


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("mistral_chat", mistral("end", finish_reason="stop")),
        ("mistral_chat", {**mistral("end"), "usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
        ("mistral_chat", mistral([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}])),
        ("mistral_chat", mistral("other", index=1)),
        ("mistral_chat", mistral("x", delta={"content": "", "tool_calls": [{"id": "t"}]})),
        ("mistral_chat", {**mistral("x"), "choices": [mistral("x")["choices"][0]] * 2}),
        ("mistral_chat", {"object": "error", "type": "invalid"}),
        ("cohere", cohere("x", usage={})),
        ("cohere", {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}),
        ("cohere", {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"thinking": "Hm"}}}}),
    ],
)
def test_what_tells_more_is_no_piece(name: str, event: dict[str, Any]) -> None:
    pattern = by_name(name).piece
    assert pattern is not None
    assert pattern.fullmatch(line(event)) is None


def test_the_pad_of_mistral_is_part_of_a_piece() -> None:
    pattern = by_name("mistral_chat").piece
    assert pattern is not None
    assert pattern.fullmatch(line({**mistral("North, "), "p": "abcd"}))
