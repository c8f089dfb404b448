"""What all records of other producers share: their key, their buckets, their columns, read by tables of names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from genai_meter import semconv
from genai_meter.clients.targets import provider_of
from genai_meter.semconv import INFERENCE_OPERATIONS
from genai_meter.usage import Usage

from genai_meter_exporter.normalise import read
from genai_meter_exporter.normalise.own import time_prefix
from genai_meter_exporter.normalise.record import (
    RANK_SPAN,
    Unreadable,
    UsageRecord,
    fill_totals,
    price_context,
)
from genai_meter_exporter.receive.raw import Attributes, Raw

CHARGED: Final = INFERENCE_OPERATIONS | {"embeddings"}
"""Operations of the conventions that call a model. All others are wrappers, tools or memory."""

_FAMILY_OF_PREFIX: Final = (
    ("chatcmpl-", "openai.chat"),
    ("resp_", "openai.responses"),
    ("cmpl-", "openai.completion"),
    ("msg_", "anthropic.message"),
)

_PROVIDERS: Final = {
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google.generative-ai": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "google.vertex": "gcp.vertex_ai",
    "google-vertex": "gcp.vertex_ai",
    "azure": "azure.ai.openai",
    "azure-openai": "azure.ai.openai",
    "az.ai.openai": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "azure_ai": "azure.ai.inference",
    "aws": "aws.bedrock",
    "amazon-bedrock": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
    "together_ai": "together",
    "togetherai": "together",
    "fireworks_ai": "fireworks",
}
"""Provider names that producers use beside the conventions' own."""

LIBRARIES: Final = frozenset({"openai", "anthropic"})
"""Names that producers give to whoever is called through the library of that name: a known host tells better."""


class Names(NamedTuple):
    """Where a producer writes what: of several names, the first that is there counts."""

    input: Sequence[str] = (semconv.USAGE_INPUT_TOKENS, "gen_ai.usage.prompt_tokens")
    output: Sequence[str] = (semconv.USAGE_OUTPUT_TOKENS, "gen_ai.usage.completion_tokens")
    cache_read: Sequence[str] = (
        semconv.USAGE_CACHE_READ_INPUT_TOKENS,
        "gen_ai.usage.cache_read_input_tokens",
        "llm.usage.cache_read_input_tokens",
    )
    cache_write: Sequence[str] = (
        semconv.USAGE_CACHE_WRITE_INPUT_TOKENS,
        semconv.USAGE_CACHE_CREATION_INPUT_TOKENS,
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.usage.cache_creation_input_tokens",
    )
    cache_write_5m: Sequence[str] = ()
    """Part of the tokens written to the cache."""
    cache_write_1h: Sequence[str] = ()
    reasoning: Sequence[str] = (
        semconv.USAGE_REASONING_OUTPUT_TOKENS,
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens",
    )
    audio_input: Sequence[str] = ("gen_ai.usage.audio.input_tokens",)
    audio_cached: Sequence[str] = ("gen_ai.usage.audio.cache_read.input_tokens",)
    audio_output: Sequence[str] = ("gen_ai.usage.audio.output_tokens",)
    image_input: Sequence[str] = ("gen_ai.usage.image.input_tokens",)
    image_cached: Sequence[str] = ("gen_ai.usage.image.cache_read.input_tokens",)
    image_output: Sequence[str] = ("gen_ai.usage.image.output_tokens",)
    video_input: Sequence[str] = ("gen_ai.usage.video.input_tokens",)
    video_cached: Sequence[str] = ("gen_ai.usage.video.cache_read.input_tokens",)
    total: Sequence[str] = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens")
    provider: Sequence[str] = (semconv.PROVIDER_NAME, semconv.SYSTEM)
    model: Sequence[str] = (semconv.RESPONSE_MODEL,)
    request_model: Sequence[str] = (semconv.REQUEST_MODEL,)
    response_id: Sequence[str] = (semconv.RESPONSE_ID,)
    tier: Sequence[str] = (semconv.OPENAI_RESPONSE_SERVICE_TIER, "gen_ai.openai.response.service_tier")
    host: Sequence[str] = (semconv.SERVER_ADDRESS, "net.peer.name")
    port: Sequence[str] = (semconv.SERVER_PORT, "net.peer.port")
    url: Sequence[str] = ("gen_ai.openai.api_base", "openai.api_base")
    """Where neither host nor port is told."""

    def all(self) -> frozenset[str]:
        """Every name."""
        return frozenset(name for names in self for name in names)


@dataclass(slots=True)
class Counts:
    """Tokens as a foreign producer reports them; None = not told."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    total: int | None = None
    cache_write_5m: int | None = None
    """Part of `cache_write`, as are the tokens kept for an hour."""
    cache_write_1h: int | None = None
    audio_input: int | None = None
    """Part of `input`, as are all of these."""
    audio_cached: int | None = None
    """Part of `cache_read` and of `audio_input`."""
    audio_output: int | None = None
    image_input: int | None = None
    image_cached: int | None = None
    image_output: int | None = None
    video_input: int | None = None
    video_cached: int | None = None
    web_search: int | None = None
    """Searches of the provider's own, billed beside the tokens."""

    @property
    def told(self) -> bool:
        """Any usage at all. Nothing in and nothing out is what some producers write when they know nothing."""
        return bool(self.input or self.output)


def record(
    raw: Raw,
    operation: str,
    kind: str,
    *,
    names: Names,
    rank: int = RANK_SPAN,
    counts: Counts | None = None,
    cached_beside: bool | None = None,
    conventions: bool = True,
    beside: Sequence[Usage] = (),
) -> UsageRecord:
    """A record of another producer. `counts`, when they were not read from attributes; without `conventions`, the
    attributes of the GenAI conventions on it are not its own. `beside`: what is billed, and not among the counts."""
    attributes = raw.attributes
    values = read.fields(attributes if conventions else {}, raw.resource, lenient=True)
    for column, told in (
        ("model", names.model),
        ("request_model", names.request_model),
        ("response_id", names.response_id),
        ("tier", names.tier),
    ):
        _take(values, column, attributes, told)
    provider = provider_name(read.named_text("provider", first(attributes, names.provider)) or "")
    if not provider or provider in LIBRARIES:
        provider = _by_host(provider, attributes, names, values)
    if provider:
        values["provider"] = provider
    else:
        values.pop("provider", None)
    values["operation"] = _operation(operation, values)
    producer = (raw.scope or "unnamed") + kind
    values["source"] = producer
    values["source_rank"] = rank
    values["trace_id"], values["span_id"] = raw.trace_id.hex(), raw.span_id.hex()
    values["start"] = raw.start_ns
    values["end"] = max(raw.end_ns, raw.start_ns)
    values["status"] = "error" if raw.failed or "error_type" in values else "ok"
    values["id_family"] = id_family(values.get("response_id"))
    counts = counts or read_counts(attributes, names)
    if counts.input is None and values["operation"] == "embeddings":
        counts.input = counts.total  # all that there is, and some servers tell nothing else
    told_usage = usage(counts, cached_beside=cached_beside)
    usages = [told_usage, *beside] if told_usage else []
    values["usage_source"] = "provider" if told_usage else "unknown"
    if told_usage:
        fill_totals(values, usages)
    return UsageRecord(
        key=key(raw, kind, values.get("response_id")),
        values=values,
        usages=usages,
        producer=producer,
        rank=rank,
        trace_id=raw.trace_id,
        span_id=raw.span_id,
        parent_span_id=raw.parent_span_id,
        context=price_context(values),
    )


def key(raw: Raw, kind: str, response_id: str | None = None) -> bytes:
    """A time-ordered key from the record's own start and (trace id, span id): the same on every re-send.

    A log record outside of every span goes by its response id.
    """
    if not raw.start_ns:
        raise Unreadable("the record has no time")
    if len(raw.trace_id) == 16 and len(raw.span_id) == 8:
        own = raw.trace_id + raw.span_id
    elif raw.signal == "logs" and response_id:
        own = response_id.encode("utf-8", "surrogatepass")
    else:
        raise Unreadable("the record has no trace id and span id: it could not be told from its own re-send")
    digest = hashlib.blake2b(own + kind.encode(), digest_size=10)
    return time_prefix(raw.start_ns) + digest.digest()


def id_family(response_id: str | None) -> str | None:
    """The wire format a response id comes from, where its shape tells."""
    if not response_id:
        return None
    return next((family for prefix, family in _FAMILY_OF_PREFIX if response_id.startswith(prefix)), None)


def provider_name(told: str) -> str:
    """The conventions' name of a provider; the Vercel AI SDK names the API behind it too."""
    name = told.lower()
    return _PROVIDERS.get(name, name)


def usage(counts: Counts, *, cached_beside: bool | None) -> Usage | None:
    """Exclusive buckets of inclusive or exclusive counts; None when nothing was told.

    Producers disagree on whether `input` contains the cached tokens. `cached_beside` is what is known of the
    producer: False holds whatever the numbers say, for it hands on what servers say, and some say more cached
    tokens than input. Else the numbers decide where they prove something: a total that fits only one reading,
    or more cached than input.
    """
    if not counts.told:
        return None
    gross, inferred = _gross_input(counts, cached_beside)
    cache_read = min(counts.cache_read or 0, gross)
    cache_write = min(counts.cache_write or 0, gross - cache_read)
    output, reasoning = counts.output or 0, counts.reasoning or 0
    if reasoning > output and counts.total == gross + output:
        reasoning = output
        inferred = (*inferred, "reasoning_over_output")
    elif reasoning > output:
        output += reasoning
        inferred = (*inferred, "reasoning_beside_output")
    five, hour = counts.cache_write_5m or 0, counts.cache_write_1h or 0
    if five + hour > cache_write:
        five = hour = 0
    buckets: dict[str, Any] = {
        "input": gross - cache_read - cache_write,
        "cache_read": cache_read,
        "cache_write": cache_write - five - hour,
        "cache_write_5m": five,
        "cache_write_1h": hour,
        "output": output - reasoning,
        "output_reasoning": reasoning,
        "web_search": counts.web_search or 0,
    }
    _split(buckets, counts)
    return Usage({name: count for name, count in buckets.items() if count}, inferred=inferred)


def _split(buckets: dict[str, Any], counts: Counts) -> None:
    """What is not text has buckets of its own, as far as the whole goes."""
    for modality, told, cached, answered in (
        ("audio", counts.audio_input, counts.audio_cached, counts.audio_output),
        ("image", counts.image_input, counts.image_cached, counts.image_output),
        ("video", counts.video_input, counts.video_cached, None),
    ):
        kept = min(cached or 0, told or 0)
        for whole, part in (("input", (told or 0) - kept), ("cache_read", kept), ("output", answered or 0)):
            if 0 < part <= buckets[whole]:
                buckets[whole] -= part
                buckets[f"{whole}_{modality}"] = part


def read_counts(attributes: Attributes, names: Names) -> Counts:
    """Counts from attributes; raises `Unreadable` naming the one that is none."""
    return Counts(
        input=_count(attributes, names.input),
        output=_count(attributes, names.output),
        cache_read=_count(attributes, names.cache_read),
        cache_write=_count(attributes, names.cache_write),
        reasoning=_count(attributes, names.reasoning),
        total=_count(attributes, names.total),
        cache_write_5m=_count(attributes, names.cache_write_5m),
        cache_write_1h=_count(attributes, names.cache_write_1h),
        audio_input=_count(attributes, names.audio_input),
        audio_cached=_count(attributes, names.audio_cached),
        audio_output=_count(attributes, names.audio_output),
        image_input=_count(attributes, names.image_input),
        image_cached=_count(attributes, names.image_cached),
        image_output=_count(attributes, names.image_output),
        video_input=_count(attributes, names.video_input),
        video_cached=_count(attributes, names.video_cached),
    )


def first(attributes: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value of the first of these attributes that is there."""
    return next((attributes[name] for name in names if attributes.get(name) is not None), None)


def _by_host(library: str, attributes: Attributes, names: Names, values: dict[str, Any]) -> str:
    """Who is behind the host that was called, as our plug-in would say; the library's name when nobody knows it."""
    url, host, port = first(attributes, names.url), first(attributes, names.host), first(attributes, names.port)
    try:
        if host is None:
            if not isinstance(url, str) or "://" not in url:
                return library
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        if isinstance(host, str) and host:
            values.setdefault("host", read.text(host))
            path = urlsplit(url).path if isinstance(url, str) else ""
            return _behind(library, host, None if port is None else read.integer(port), path)
    except ValueError:
        pass  # no URL, no port: what was called stays unknown
    return library


@lru_cache(1_000)
def _behind(library: str, host: str, port: int | None, path: str) -> str:
    return provider_of(host, "", library, port, path)


def _take(values: dict[str, Any], column: str, attributes: Attributes, names: Sequence[str]) -> None:
    told = first(attributes, names)
    if told is not None:
        values[column] = read.named_text(names[0], told)


def _operation(told: str, values: Mapping[str, Any]) -> str:
    """What a call was: nobody who instruments Bedrock tells embeddings or ranking from chat."""
    if told in INFERENCE_OPERATIONS and values.get("provider") == "aws.bedrock":
        model = values.get("model") or values.get("request_model") or ""
        return "embeddings" if "embed" in model else "rerank" if "rerank" in model else told
    return told


def _count(attributes: Attributes, names: Sequence[str]) -> int | None:
    value = first(attributes, names)
    if value is None or value != value:  # NaN is how some JavaScript says that nothing was told
        return None
    try:
        return read.count(value)
    except ValueError as error:
        raise Unreadable(f"{next(n for n in names if n in attributes)} {error}") from None


def _gross_input(counts: Counts, cached_beside: bool | None) -> tuple[int, tuple[str, ...]]:
    given = counts.input or 0
    cached = (counts.cache_read or 0) + (counts.cache_write or 0)
    if not cached:
        return given, ()
    if cached_beside is not False:
        output = counts.output or 0
        fits_inside = counts.total == given + output
        if cached > given or counts.total == given + cached + output or (cached_beside and not fits_inside):
            return given + cached, ("cached_beside_input",)
    return given, ("cached_over_input",) if cached > given else ()
