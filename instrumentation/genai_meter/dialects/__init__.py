"""Wire formats: which one a path speaks, which one a flavour of raw JSON is."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from genai_meter.dialects.anthropic_completions import AnthropicCompletions
from genai_meter.dialects.anthropic_messages import AnthropicMessages
from genai_meter.dialects.base import Dialect
from genai_meter.dialects.openai_audio import OpenAISpeech, OpenAITranscriptions, OpenAITranslations
from genai_meter.dialects.openai_chat import OpenAIChat
from genai_meter.dialects.openai_completions import OpenAICompletions
from genai_meter.dialects.openai_embeddings import OpenAIEmbeddings
from genai_meter.dialects.openai_images import OpenAIImages
from genai_meter.dialects.openai_moderations import OpenAIModerations
from genai_meter.dialects.openai_responses import OpenAIResponses

__all__ = ["Dialect", "by_name", "for_path"]

_CHAT: Final = OpenAIChat()
_MESSAGES: Final = AnthropicMessages()
_RESPONSES: Final = OpenAIResponses()
_IMAGES: Final = OpenAIImages()

_TWO_SEGMENTS: Final[dict[str, Dialect]] = {
    "chat/completions": _CHAT,
    "responses/compact": _RESPONSES,
    "images/generations": _IMAGES,
    "images/edits": _IMAGES,
    "images/variations": _IMAGES,
    "audio/speech": OpenAISpeech(),
    "audio/transcriptions": OpenAITranscriptions(),
    "audio/translations": OpenAITranslations(),
    "v1/messages": _MESSAGES,
    "v1/complete": AnthropicCompletions(),
}
_ONE_SEGMENT: Final[dict[str, Dialect]] = {
    "completions": OpenAICompletions(),
    "responses": _RESPONSES,
    "embeddings": OpenAIEmbeddings(),
    "moderations": OpenAIModerations(),
}

_BY_NAME: Final[dict[str, Dialect]] = {d.name: d for d in (*_TWO_SEGMENTS.values(), *_ONE_SEGMENT.values())}


@lru_cache(maxsize=256)
def for_path(method: str, path: str) -> Dialect | None:
    """The dialect of a logical path (before Azure, Vertex or Bedrock rewrite it); None: not metered."""
    if method.upper() != "POST":
        return None
    segments = path.partition("?")[0].strip("/").split("/")
    last = segments[-1]
    if segments[0] == "threads" or "threads" in segments:
        return None
    found = _TWO_SEGMENTS.get("/".join(segments[-2:]))
    return found if found is not None else _ONE_SEGMENT.get(last)


def by_name(name: str) -> Dialect:
    """The dialect called `name`; KeyError for an unknown one."""
    return _BY_NAME[name]
