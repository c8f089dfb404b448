"""Answers from the caches of libraries: LangChain's `BaseCache`, litellm's `Cache`. No call, no charge.

Where a library looks into its cache it has one place that knows the answer was found there; what it returns is read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from genai_meter import caches
from genai_meter.caches import Hit
from genai_meter.dialects.base import fields, read
from genai_meter.safety import guarded, logger
from genai_meter.usage import Quantity, Usage

PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "amazon_bedrock": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""Name of a provider in these libraries → the conventions' name, where they differ."""

_DETAILS: Final = {
    "input": (("cache_read", "cache_read"), ("cache_creation", "cache_write"), ("audio", "input_audio")),
    "output": (("reasoning", "output_reasoning"), ("audio", "output_audio")),
}
"""LangChain's details of a count → the buckets that they are."""


class Seam:
    """Wraps what looks into the cache, in the modules of either library."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._wrapped: list[tuple[Any, str, Any, Any]] = []
        self._active = False

    def install(self, module: ModuleType) -> None:
        """Wrap the methods and functions of `_PLACES` that the module has."""
        self._active = True
        found = False
        for owner_name, name, make in _PLACES.get(module.__name__, ()):
            owner = getattr(module, owner_name, None) if owner_name else module
            original = vars(owner).get(name) if owner is not None else None
            if owner is None or not callable(original):
                continue
            found = True
            if not any(place is owner and known == name for place, known, _, _ in self._wrapped):
                ours = make(original, self._is_active)
                self._wrapped.append((owner, name, original, ours))
                setattr(owner, name, ours)
        if not found:
            # No warning: most programs have no cache.
            logger.info("genai_meter: answers from the cache of this %s are not metered", self.package)

    def remove(self) -> None:
        """Put the originals back, unless somebody has wrapped ours."""
        self._active = False
        for owner, name, original, ours in reversed(self._wrapped):
            if getattr(owner, name, None) is ours:
                setattr(owner, name, original)
        self._wrapped.clear()

    def _is_active(self) -> bool:
        return self._active


Make = Callable[[Callable[..., Any], Callable[[], bool]], Callable[..., Any]]


def _after(tell: Callable[..., None]) -> Make:
    """What calls the original, and then `tell(result, *args, **kwargs)`."""

    def make(original: Callable[..., Any], active: Callable[[], bool]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if active():
                guarded(tell, result, *args, **kwargs)
            return result

        return wrapper

    return make


def _after_async(tell: Callable[..., None]) -> Make:
    def make(original: Callable[..., Any], active: Callable[[], bool]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = await original(*args, **kwargs)
            if active():
                guarded(tell, result, *args, **kwargs)
            return result

        return wrapper

    return make


# --- LangChain ----------------------------------------------------------------------------------------
def _chat_hit(result: Any, model: Any, *_: Any, **__: Any) -> None:
    """`BaseChatModel._convert_cached_generations`: called with what the cache had."""
    params: Mapping[str, Any] = guarded(model._get_ls_params) or {}
    hit = Hit("langchain", _provider(params.get("ls_provider")), params.get("ls_model_name"))
    if result:
        message = getattr(result[0], "message", None)
        _from_message(hit, message)
        if not hit.usages:
            hit.output_chars = sum(len(getattr(generation, "text", "") or "") for generation in result)
    caches.record(hit)


def _from_message(hit: Hit, message: Any) -> None:
    """Model and usage of the original answer, as LangChain keeps them."""
    told = fields(getattr(message, "response_metadata", None))
    model = told.get("model_name") or told.get("model")
    if isinstance(model, str):
        hit.model = model
    usage = fields(getattr(message, "usage_metadata", None))
    buckets: dict[str, Quantity] = {}
    for direction, details in _DETAILS.items():
        total = usage.get(f"{direction}_tokens")
        if not isinstance(total, int):
            continue
        parts = fields(usage.get(f"{direction}_token_details"))
        for name, bucket in details:
            count = parts.get(name)
            if isinstance(count, int) and 0 < count <= total:
                buckets[bucket] = count
                total -= count
        if total:
            buckets[direction] = total
    if buckets:
        hit.usages = [Usage(buckets)]


def _text_hits(result: Any, params: Any = None, prompts: Any = None, *_: Any, **__: Any) -> None:
    """`get_prompts` of text models: the first of what it returns has the prompts that the cache knew."""
    known: Mapping[int, Any] = result[0]
    for index, generations in known.items():
        model = read(params, "model_name") or read(params, "model")
        kind = str(read(params, "_type") or "")
        caches.record(
            Hit(
                "langchain",
                _provider(kind.partition("-")[0] or None),
                model if isinstance(model, str) else None,
                "text_completion",
                input_chars=len(prompts[index]),
                output_chars=sum(len(generation.text) for generation in generations),
            )
        )


# --- litellm ------------------------------------------------------------------------------------------
def _converted(result: Any, _handler: Any = None, cached_result: Any = None, *_: Any, **told: Any) -> None:
    """`_convert_cached_result_to_model_response`: what the cache had, as JSON, becomes an answer or a stream of one."""
    if result is not None:
        _litellm_hit(cached_result, told.get("model"), told.get("custom_llm_provider"))


def _embedded(result: Any, _handler: Any = None, model: Any = None, *_: Any, **told: Any) -> None:
    """`async_get_cache`: embeddings are looked up one by one; all of them have to be there."""
    if getattr(result, "embedding_all_elements_cache_hit", False) is True:
        answer = getattr(result, "final_embedding_cached_response", None)
        hidden = fields(getattr(answer, "_hidden_params", None))
        _litellm_hit(answer, model or told.get("model"), hidden.get("custom_llm_provider"))


def _litellm_hit(answer: Any, model: Any, provider: Any) -> None:
    hit = Hit("litellm")
    caches.read_answer(hit, answer)
    prefix, _, name = model.rpartition("/") if isinstance(model, str) else ("", "", "")
    hit.provider = _provider(provider) or _provider(prefix.partition("/")[0]) or hit.provider
    hit.model = hit.model or name or None
    caches.record(hit)


def _provider(name: Any) -> str | None:
    return PROVIDERS.get(name, name) if isinstance(name, str) and name else None


_PLACES: Final[Mapping[str, tuple[tuple[str, str, Make], ...]]] = {
    "langchain_core.language_models.chat_models": (
        ("BaseChatModel", "_convert_cached_generations", _after(_chat_hit)),
    ),
    "langchain_core.language_models.llms": (
        ("", "get_prompts", _after(_text_hits)),
        ("", "aget_prompts", _after_async(_text_hits)),
    ),
    "litellm.caching.caching_handler": (
        ("LLMCachingHandler", "_convert_cached_result_to_model_response", _after(_converted)),
        ("LLMCachingHandler", "async_get_cache", _after_async(_embedded)),
        ("LLMCachingHandler", "_async_get_cache", _after_async(_embedded)),
    ),
}
"""Module → (class, or nothing for the module itself, name, what wraps it)."""
