"""What producers do not tell of recorded calls, one row a fact. All else must be told, and exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tests.producers import running, vercel
from tests.traffic.recordings import Exchange


class Untold(NamedTuple):
    """A fact that some producers leave out, or get wrong."""

    producers: str
    what: str
    """`call`: nothing at all; `usage`: a call without it; `guess`: a count of its own where the answer has none; else
    as `bills` knows it."""
    when: Callable[[Exchange], bool]
    why: str


def _always(exchange: Exchange) -> bool:
    del exchange
    return True


def _stream(exchange: Exchange) -> bool:
    return exchange.streaming


def _ends(*ends: str) -> Callable[[Exchange], bool]:
    return lambda exchange: exchange.bare_path.endswith(ends)


def _both(one: Callable[[Exchange], bool], other: Callable[[Exchange], bool]) -> Callable[[Exchange], bool]:
    return lambda exchange: one(exchange) and other(exchange)


def _either(one: Callable[[Exchange], bool], other: Callable[[Exchange], bool]) -> Callable[[Exchange], bool]:
    return lambda exchange: one(exchange) or other(exchange)


def _not(one: Callable[[Exchange], bool]) -> Callable[[Exchange], bool]:
    return lambda exchange: not one(exchange)


def _has(*words: bytes) -> Callable[[Exchange], bool]:
    return lambda exchange: any(word in exchange.body for word in words)


def _path(part: str) -> Callable[[Exchange], bool]:
    return lambda exchange: part in exchange.path


def _told(*names: str) -> Callable[[Exchange], bool]:
    return lambda exchange: any((exchange.truth or {}).get(name) for name in names)


def _from(*providers: str, ends: tuple[str, ...] = ("",)) -> Callable[[Exchange], bool]:
    return lambda exchange: exchange.provider in providers and exchange.bare_path.endswith(ends)


_CHAT, _RESPONSES, _MESSAGES = _ends("/chat/completions"), _ends("/responses"), _ends("/v1/messages")
_EMBEDDINGS, _MEDIA = (
    _ends("/embeddings"),
    _ends("/transcriptions", "/translations", "/speech", "/images/generations", "/v1/images"),
)
_GOOGLE = _either(_path(":generateContent"), _path(":streamGenerateContent"))
_THEIR_WORDS = _either(_MESSAGES, _GOOGLE)
"""The Vercel AI SDK has always handed these on in the provider's own words."""
_DEEPSEEK_CHAT = _from("deepseek", ends=("/chat/completions",))
_WHOLE = _both(_not(_stream), _not(_THEIR_WORDS))
_images = _ends("/images/generations", "/v1/images")
_COMPLETIONS = _both(_ends("/completions"), _not(_CHAT))


def _from_host(host: str) -> Callable[[Exchange], bool]:
    return lambda exchange: exchange.host == host


def _refused(exchange: Exchange) -> bool:
    return _MESSAGES(exchange) and exchange.status >= 400


def _beta(exchange: Exchange) -> bool:
    return "beta=true" in exchange.path


def _unknown_host(exchange: Exchange) -> bool:
    return not any(part in (exchange.host or "") for part in ("openai.azure.com", "bedrock", "openrouter.ai"))


def _small(exchange: Exchange) -> bool:
    others = ("snowflake", "crusoe", "heroku", "voyageai", "mirascope_router")
    ollama = exchange.provider == "ollama" and exchange.host != "ollama.com"
    return ollama or _from("aws.bedrock", "openrouter", "huggingface")(exchange) or exchange.detail in others


_LIBRARY: Final = "otel otel_old openllmetry traceloop openinference openlit logfire langfuse"
_OPENLLMETRY: Final = "openllmetry traceloop"
_VERCEL: Final = " ".join(running.VERCEL)
_BEFORE_7: Final = _VERCEL.replace("vercel_7 ", "")


UNTOLD: Final = (
    Untold(
        "together_and_ours rest_and_ours bedrock_and_ours openllmetry_bedrock_and_ours",
        "guess",
        _always,
        "a stream's own usage: our estimate, marked as one",
    ),
    Untold("together", "route", _always, "no path: whom Hugging Face's router calls is in it"),
    Untold("together", "searches", _either(_MESSAGES, _RESPONSES), "searches that the provider makes and bills"),
    Untold("together", "iterations", _MESSAGES, "what Anthropic bills beside the counts of an answer"),
    Untold("together", "host", _MEDIA, "the host, of what only Logfire sees"),
    Untold("together", "call", _images, "images are not instrumented"),
    Untold("together", "audio", _MEDIA, "which tokens are audio"),
    # --- who is paid, and for which model
    Untold("langfuse logfire", "host", _always, "not where the client calls: everybody is the library's own provider"),
    Untold(_OPENLLMETRY, "host", _both(_RESPONSES, _unknown_host), "no host on spans of Responses; some it knows"),
    Untold("openinference", "host", _small, "only hosts that it knows itself"),
    Untold("otel otel_old openlit", "route", _always, "no path: whom Hugging Face's router calls is in it"),
    Untold("openinference", "azure", _always, "one name for all hosts of Azure"),
    Untold("azure_ai", "foundry", _always, "one name for all hosts of Azure"),
    Untold("openinference_google", "vertex", _always, "one name for Gemini and Vertex AI"),
    Untold("openllmetry_google", "gen_ai", _always, "one name for Gemini and Vertex AI"),
    Untold("openlit", "served", _EMBEDDINGS, "of embeddings, only the model that was asked for"),
    Untold(
        "openllmetry traceloop openllmetry_old",
        "served",
        _both(_EMBEDDINGS, _from("openrouter")),
        "whether a maker is in the model's name",
    ),
    Untold("openinference_bedrock", "asked", _ends("/invoke"), "the inference profile, where the answer names a model"),
    Untold("logfire", "served", _both(_stream, _not(_MESSAGES)), "of streams, only the model that was asked for"),
    Untold("litellm", "unnamed", _both(_stream, _RESPONSES), "who is called, of a stream of Responses"),
    Untold("litellm", "served", _both(_stream, _not(_RESPONSES)), "of streams, only the model that was asked for"),
    # --- calls that it makes no span of
    Untold("otel otel_old openlit", "call", _COMPLETIONS, "completions without chat are not instrumented"),
    Untold("otel_old", "call", _RESPONSES, "Responses are not instrumented"),
    Untold("otel_old", "call", _EMBEDDINGS, "embeddings are not instrumented"),
    Untold(
        "otel otel_old openllmetry traceloop openlit langfuse openllmetry_old", "call", _MEDIA, "chat and text only"
    ),
    Untold("openinference", "usage", _MEDIA, "the usage of audio and images is not read"),
    Untold("logfire", "call", _images, "images are not instrumented"),
    Untold("logfire", "usage", _both(_COMPLETIONS, _stream), "the usage of streams of completions"),
    Untold("logfire", "audio", _MEDIA, "which tokens are audio"),
    Untold("openlit openllmetry_old", "call", _beta, "`beta.messages` is not instrumented"),
    Untold("together together_and_ours", "twice", _always, "usage, where another tells it"),
    Untold(
        "openllmetry traceloop", "twice", _refused, "that its span of a failed call is the one that the SDK tells of"
    ),
    Untold("otel_google openllmetry_google", "call", _ends("/interactions"), "interactions are not instrumented"),
    # --- usage
    Untold(
        _LIBRARY + " openinference_groq litellm together",
        "usage",
        _both(_stream, _has(b'"usage_breakdown"')),
        "Groq's own place for the usage of streams",
    ),
    Untold("otel openlit langfuse", "usage", _from_host("api.voyageai.com"), "a total alone is not told"),
    Untold(
        "openinference_bedrock",
        "usage",
        _both(_ends("/invoke-with-response-stream"), _path("titan")),
        "the usage of Titan's streams",
    ),
    Untold("openlit", "guess", _stream, "counts the words of a stream that tells no usage"),
    Untold(
        _LIBRARY + " litellm openinference_rest openllmetry_old together",
        "cached",
        _has(b'"num_cached_tokens"'),
        "Mistral's own name for cached tokens",
    ),
    Untold(
        _LIBRARY + " litellm openinference_rest openllmetry_old together",
        "audio_beside",
        _has(b'"prompt_audio_seconds"'),
        "Mistral counts audio beside the prompt",
    ),
    Untold("otel_old azure_ai", "cached", _always, "cached tokens"),
    Untold("openllmetry_old", "cached", _not(_MESSAGES), "OpenAI's cached tokens"),
    Untold("openllmetry_old", "usage", _stream, "the usage of streams"),
    Untold(
        "otel_old openllmetry traceloop openllmetry_old", "written", _not(_MESSAGES), "tokens written to OpenAI's cache"
    ),
    Untold("openlit openllmetry_old", "ttl", _MESSAGES, "how long Anthropic keeps what is cached"),
    Untold("otel_old openllmetry_old openlit azure_ai", "reasoning", _CHAT, "reasoning tokens"),
    Untold("openlit openllmetry_old", "reasoning", _MESSAGES, "reasoning tokens"),
    Untold("openllmetry traceloop", "reasoning", _both(_CHAT, _stream), "reasoning tokens of streams"),
    Untold(
        "otel openllmetry traceloop openinference openlit anthropic_sdk pydantic_ai openllmetry_old",
        "searches",
        _MESSAGES,
        "searches that the provider makes and bills",
    ),
    Untold("logfire", "searches", _both(_MESSAGES, _stream), "searches that the provider makes and bills"),
    Untold(
        _LIBRARY.replace("otel_old ", "") + " litellm pydantic_ai " + _VERCEL,
        "searches",
        _RESPONSES,
        "searches that OpenAI makes and bills",
    ),
    Untold(
        "otel_google openllmetry_google openinference_google",
        "searches",
        _GOOGLE,
        "searches that Google makes and bills",
    ),
    Untold(
        "logfire",
        "iterations",
        _both(_MESSAGES, _stream),
        "of streams, advisors and compactions: left out, as the SDK does",
    ),
    Untold(
        "otel openllmetry traceloop openinference anthropic_sdk pydantic_ai",
        "iterations",
        _MESSAGES,
        "advisors and compactions, which Anthropic bills beside the counts of an answer",
    ),
    Untold(
        "otel_old openllmetry traceloop openllmetry_old openlit pydantic_ai", "audio", _always, "which tokens are audio"
    ),
    Untold("openlit openllmetry traceloop", "tier", _both(_RESPONSES, _stream), "the tier of a stream"),
    Untold("logfire openinference pydantic_ai openllmetry_old", "tier", _always, "the tier"),
    Untold("otel_google", "tool_prompt", _told("tool_use_input"), "what the provider's own tools read"),
    Untold(
        "openllmetry_google",
        "tool_prompt_as_output",
        _told("tool_use_input"),
        "what the provider's own tools read, but in the total",
    ),
    Untold("openllmetry_google openinference_google", "images", _always, "which tokens are images"),
    Untold("openllmetry_google", "audio", _always, "which tokens are audio"),
    Untold("openinference_google", "reasoning", _ends("/interactions"), "reasoning tokens of interactions"),
    Untold("openinference_rest", "call", _from("mistral_ai", ends=("/embeddings", "/transcriptions")), "chat only"),
    Untold("openinference_rest", "call", _both(_ends("/v1/chat"), _stream), "streams of Cohere's first version"),
    Untold("botocore", "cached_beside", _ends("/invoke"), "cached tokens of InvokeModel"),
    Untold("openinference_rest", "billed", _always, "Cohere's billed tokens: all that were read are charged"),
    Untold("openinference_rest", "cached", _always, "cached tokens"),
    Untold("openinference_rest", "reasoning", _always, "reasoning tokens"),
    Untold("openllmetry_groq", "reasoning", _always, "reasoning tokens"),
    Untold("openinference_groq", "usage", _stream, "the usage of streams"),
    Untold("openllmetry_cohere openinference_rest", "usage", _ends("/embed"), "the usage of embeddings"),
    Untold("openllmetry_cohere", "reasoning", _always, "reasoning tokens"),
    Untold(
        "logfire together together_and_ours",
        "seconds",
        _from("mistral_ai", ends=("/transcriptions",)),
        "seconds, which are billed",
    ),
    Untold("openllmetry_bedrock", "profile", _always, "the inference profile"),
    # --- Vercel AI SDK
    Untold("vercel_7", "host", _both(vercel.through_openai, _not(_CHAT)), "the host of what is no chat"),
    Untold(_BEFORE_7, "host", vercel.through_openai, "not where OpenAI's package calls"),
    Untold("vercel_7", "route", _always, "no path: whom Hugging Face's router calls is in it"),
    Untold(_VERCEL, "azure", _from("azure.ai.openai"), "one name for all hosts of Azure"),
    Untold(_VERCEL, "served", _EMBEDDINGS, "of embeddings, only the model that was asked for"),
    Untold(_VERCEL, "billed", _from("cohere"), "Cohere's billed tokens: all that were read are charged"),
    Untold(_VERCEL, "cached", _from("cohere"), "Cohere's cached tokens"),
    Untold(_VERCEL, "reasoning", _from("cohere"), "Cohere's reasoning tokens"),
    Untold(_VERCEL, "tier", _CHAT, "the tier of what is no Response"),
    Untold(_VERCEL, "audio_beside", _has(b'"prompt_audio_seconds"'), "Mistral counts audio beside the prompt"),
    Untold(_VERCEL, "audio", _CHAT, "which tokens are audio"),
    Untold("vercel_5", "cached", _both(_WHOLE, _not(_either(_ends("/converse"), _DEEPSEEK_CHAT))), "cached tokens"),
    Untold("vercel_5", "reasoning", _WHOLE, "reasoning tokens of whole answers"),
    Untold("vercel_5 vercel_4", "cached", _from("mistral_ai"), "cached tokens"),
    Untold("vercel_5 vercel_4", "reasoning", _from("groq"), "reasoning tokens"),
    Untold("vercel_5", "read_beside", _ends("/converse"), "tokens read from the cache"),
    Untold("vercel_4", "thoughts", _GOOGLE, "thoughts, nor in the output"),
    Untold("vercel_4", "cached", _either(_GOOGLE, _from("groq")), "cached tokens"),
    Untold("vercel_4", "tool_prompt", _GOOGLE, "what the provider's own tools read"),
    Untold("vercel_4", "images", _GOOGLE, "which tokens are images"),
    Untold("vercel_4", "audio", _GOOGLE, "which tokens are audio"),
    Untold("vercel_4", "written", _either(_CHAT, _RESPONSES), "tokens written to OpenAI's cache"),
    Untold("vercel_4", "ttl", _MESSAGES, "how long Anthropic keeps what is cached"),
    Untold("vercel_4", "reasoning", _MESSAGES, "reasoning tokens"),
    Untold("vercel_4", "tier", _both(_RESPONSES, _stream), "the tier of a stream"),
)
"""All that was found."""


class Odd(NamedTuple):
    """A single recording that comes out otherwise."""

    what: str
    """Fields of the bill that differ, no others may; `usage` or `call` where that is missing."""
    why: str


_THOUGHTS: Final = Odd("reasoning", "counts the words of the thoughts itself; the charge is the same")
_CACHED_IMAGES: Final = Odd("cost", "tells which cached tokens are images; the files do not")
_NO_MESSAGE: Final = Odd(
    "usage", "raises inside at an answer without what it looks for, and ends its span without usage"
)
_REFUSED: Final = Odd("call", "its own model of a Response refuses this one, and it ends no span")
_BEGINNING: Final = Odd("input cost", "of a stream, the input that its beginning tells, and its searches add to")
_CHUNK: Final = Odd("usage", "of a stream, reads usage only where the last chunk is as OpenAI sends it")
_INCOMPLETE: Final = Odd("usage", "of a stream, reads the end only of a complete Response; this one ends incomplete")
ODD: Final[Mapping[tuple[str, str], Odd]] = {
    ("*", "openai-chat-c3be12a1bb2d"): Odd("cost", "a hand-made answer whose parts are more than its sum"),
    ("ours", "mistralai-chat-563331879fbe"): Odd(
        "input cache_read output cost", "Langfuse's wrapper raises in the middle: an estimate of what was read"
    ),
    ("ours", "openrouter-chat-678566e127d0"): Odd(
        "input output reasoning", "error and usage in one chunk, at which the client raises: an estimate"
    ),
    ("ours", "gemini-generate_content-b7ceeeea30fa"): _CACHED_IMAGES,
    ("otel_google", "gemini-generate_content-b7ceeeea30fa"): _CACHED_IMAGES,
    ("vercel", "gemini-generate_content-b7ceeeea30fa"): _CACHED_IMAGES,
    ("vercel", "openrouter-chat-678566e127d0"): Odd("reasoning", "more thoughts than output: the output holds"),
    ("vercel_4", "anthropic-messages-e60e399d5b24"): Odd(
        "input output cost", "of a stream, the input that its beginning tells, and no compaction"
    ),
    ("together", "azure-chat-ba5a489b8b27"): Odd("provider", "only Logfire reads a filtered answer, and tells no host"),
    ("together", "openai-audio-673ea4c582f8"): Odd(
        "call", "a transcription that is streamed, without usage or operation"
    ),
    ("logfire", "openai-audio-673ea4c582f8"): Odd(
        "call", "a transcription that is streamed, without usage or operation"
    ),
    ("openinference_rest", "cohere-chat-1951425c1d10"): Odd("call", "a call without a model: no span"),
    ("openllmetry_groq", "groq-chat-0223166e7ad2"): Odd(
        "model", "the model that was asked for, not the one that served"
    ),
    **{
        (whose, f"{recording}"): _REFUSED
        for whose in ("openllmetry", "traceloop")
        for recording in (
            "openai-responses-d4aca4dff135",
            "openai-responses-9e214967e6fd",
            "bedrock-responses-966fb2fcd6bb",
        )
    },
    ("openinference", "openai-responses-d208919595c5"): _INCOMPLETE,
    ("logfire", "openai-responses-d208919595c5"): _INCOMPLETE,
    ("openlit", "openai-responses-d208919595c5"): Odd(
        "model input cost", "of a Response that ends incomplete, counts the words of the question"
    ),
    ("logfire", "mistralai-chat-31019008e96b"): _CHUNK,
    ("logfire", "mistralai-chat-a971720ec1b2"): _CHUNK,
    ("logfire", "other-chat-0cde8d8cdef1"): _CHUNK,
    ("langfuse", "mistralai-chat-563331879fbe"): _NO_MESSAGE,
    ("openlit", "openai-chat-492070be123c"): _NO_MESSAGE,
    ("openlit", "azure-chat-ba5a489b8b27"): _NO_MESSAGE,
    ("openlit", "mistralai-chat-2fd61b0f268d"): _NO_MESSAGE,
    ("openlit", "anthropic-messages-620980ee7335"): _BEGINNING,
    ("openlit", "anthropic-messages-de33ccefebdc"): _BEGINNING,
    ("openlit", "anthropic-messages-77ad46a17dd6"): Odd(
        "input cache_read cost", "of a stream, the cached tokens that its end tells: none"
    ),
    ("litellm", "mistralai-chat-563331879fbe"): _THOUGHTS,
    ("litellm", "anthropic-messages-43b2b82c466c"): _THOUGHTS,
    ("litellm", "anthropic-messages-58d5f8121dea"): _THOUGHTS,
    ("litellm", "anthropic-messages-ceab045b080d"): _THOUGHTS,
}
"""(producer, or `ours`, `vercel` for all of them, or `*`; recording) → how it comes out, and why."""
