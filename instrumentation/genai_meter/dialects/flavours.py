"""Which dialect a raw answer is in, when no path tells: (provider, API flavour, shape)."""

from __future__ import annotations

from typing import Final

from genai_meter.dialects.base import Dialect, Json, fields
from genai_meter.dialects.paths import MODULES, by_name

FLAVOURS: Final = {
    "chat": "openai_chat",
    "completions": "openai_completions",
    "responses": "openai_responses",
    "decisions": "openai_decisions",
    "embeddings": "openai_embeddings",
    "images": "openai_images",
    "moderations": "openai_moderations",
    "realtime": "openai_realtime",
    "live": "openai_realtime",
    "speech": "openai_speech",
    "transcriptions": "openai_transcriptions",
    "anthropic": "anthropic_messages",
    "messages": "anthropic_messages",
    "converse": "bedrock_converse",
    "invoke": "bedrock_invoke",
    "ocr": "mistral_ocr",
    "ocr_annotated": "mistral_ocr",
}
"""Flavours that mean the same with every provider."""

PROVIDERS: Final = {
    "anthropic": "anthropic_messages",
    "google": "gemini",
    "gcp": "gemini",
    "gemini": "gemini",
    "aws": "bedrock_converse",
    "cohere": "cohere",
    "ollama": "ollama",
}
"""The `default` flavour of a provider (first part of its name); all others speak `openai_chat`."""

SHAPES: Final = (
    ("usageMetadata", "gemini"),
    ("input_characters", "openai_speech"),
    ("usage_info", "mistral_ocr"),
    ("embedding", "openai_embeddings"),
    ("choices", "openai_chat"),
    ("output", "openai_responses"),
    ("content", "anthropic_messages"),
    ("duration", "openai_transcriptions"),
)
"""A field that only one format has → that format; looked at in this order when no flavour is told."""


def by_flavor(provider: str, api_flavor: str | None, raw: Json = None) -> Dialect:
    """The dialect of a raw answer; KeyError for a flavour nobody knows."""
    if api_flavor in MODULES:
        return by_name(api_flavor)
    family = provider.replace("_", ".").replace("-", ".").partition(".")[0]
    if family == "cohere" and api_flavor == "embeddings":
        return by_name("cohere_embed")
    if family == "cohere" and api_flavor == "tokens":
        return by_name("cohere")
    if family in ("google", "gcp") and api_flavor == "chat" and "usageMetadata" in fields(raw):
        return by_name("gemini")
    if api_flavor is not None and api_flavor != "default":
        return by_name(FLAVOURS[api_flavor])
    if api_flavor is None:
        told = fields(raw)
        for field, name in SHAPES:
            if field in told:
                return by_name(name)
    return by_name(PROVIDERS.get(family, "openai_chat"))
