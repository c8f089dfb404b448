"""Gemini `generateContent`, on the Developer API and on Vertex AI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import AUDIO, IMAGE, NONE, TEXT, VIDEO, Tally, count
from genai_meter.dialects.requests import bound_in, chars, for_model, items, number, size, strings, text, whole
from genai_meter.usage import Usage

MODALITIES: Final[dict[str | int, str]] = {
    "TEXT": TEXT,
    "IMAGE": IMAGE,
    "VIDEO": VIDEO,
    "AUDIO": AUDIO,
    # Enum numbers, from clients that ask for `enum-encoding=int`.
    1: TEXT,
    2: IMAGE,
    3: VIDEO,
    4: AUDIO,
}
"""A DOCUMENT has no rate of its own and stays unnamed."""

TRAFFIC_TIERS: Final = {
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "PROVISIONED_THROUGHPUT": "provisioned",
}
"""`trafficType` of Vertex → served tier; plain `ON_DEMAND` is the standard price."""


_TOTALS: Final = ("promptTokenCount", "candidatesTokenCount")
GROUNDING: Final = ("webSearchQueries", "imageSearchQueries", "groundingChunks", "googleMapsWidgetContextToken")
"""Where the metadata of a grounded answer names queries of the web and of pictures, sources, and maps."""


class Gemini(Dialect):
    """`POST …/models/{model}:generateContent` and `:streamGenerateContent`."""

    name = "gemini"
    operation = "generate_content"
    id_family = "gemini.response"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        config = fields(body.get("generationConfig", body.get("generation_config")))
        thinking = fields(config.get("thinkingConfig"))
        view = RequestView(
            model=text(body, "model"),
            max_tokens=whole(config, "maxOutputTokens"),
            temperature=number(config, "temperature"),
            top_p=number(config, "topP"),
            top_k=whole(config, "topK"),
            seed=whole(config, "seed"),
            choice_count=whole(config, "candidateCount"),
            stop_sequences=strings(config, "stopSequences"),
            reasoning_level=text(thinking, "thinkingLevel"),
            tool_count=size(body, "tools"),
        )
        tier = tier_of(body.get("serviceTier"))
        if tier is not None:
            view.service_tier = view.context["service_tier"] = tier
        if text(config, "responseMimeType") == "application/json":
            view.output_type = "json"
        system = fields(body.get("systemInstruction", body.get("system_instruction")))
        if system:
            view.chars_by_role["system"] = chars(system.get("parts"))
        contents = items(body, "contents")
        if contents is not None:
            view.message_count = len(contents)
            for content in contents:
                told = fields(content)
                role = "assistant" if told.get("role") == "model" else "user"
                view.chars_by_role[role] = view.chars_by_role.get(role, 0) + chars(told.get("parts"))
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        reading.terminal = True
        self.chunk(reading, payload)

    def chunk(self, reading: Reading, event: Json) -> None:
        told = event if event.__class__ is dict else fields(event)
        if not reading.response_id:
            reading.response_id = text(told, "responseId") or None
        reading.model = text(told, "modelVersion") or reading.model
        for candidate in told.get("candidates") or ():
            _candidate(reading, fields(candidate))
        if "promptFeedback" in told and fields(told["promptFeedback"]).get("blockReason") is not None:
            # Nothing follows a prompt that was refused; what was read of it is billed.
            reading.terminal = True
        usage = told.get("usageMetadata")
        if usage is not None:
            # A copy: older versions of the client library strike out what they do not know.
            reading.usage = usage = dict(fields(usage))
            # Earlier chunks count what has been generated so far.
            reading.fidelity = "final" if reading.terminal else "partial"
            _evidence(reading, usage)
        error = fields(told.get("error"))
        if error:
            reading.error_type = str(error.get("status") or error.get("code") or "_OTHER")[:64]

    def billed(self, reading: Reading) -> list[Usage]:
        if reading.usage is None:
            return []
        told = fields(reading.usage)
        if told.get("promptTokenCount") is None and told.get("candidatesTokenCount") is None:
            return []
        result = Tally()
        cached_details = by_modality(told.get("cacheTokensDetails"))
        cached = count(told.get("cachedContentTokenCount"))
        modalities = by_modality(told.get("promptTokensDetails"))
        result.input(
            count(told.get("promptTokenCount")),
            cached=cached,
            modalities=modalities,
            cached_modalities=cached_details if cached else NONE,
        )
        result.add("tool_prompt", count(told.get("toolUsePromptTokenCount")))
        thoughts = count(told.get("thoughtsTokenCount"))
        result.output(
            count(told.get("candidatesTokenCount")) + thoughts,
            reasoning=thoughts,
            modalities=by_modality(told.get("candidatesTokensDetails")),
        )
        if not result.buckets and any(told.get(name) for name in _TOTALS):
            return []  # counts that are none
        add_grounding(result, reading, reading.model)
        return [result.usage()]

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        changed = for_model(body, model)
        if max_tokens is not None:
            key = "generation_config" if "generation_config" in changed else "generationConfig"
            bound_in(changed, key, "maxOutputTokens", max_tokens)
        return changed


class GeminiEmbeddings(Dialect):
    """`POST …:embedContent`, `:batchEmbedContents`, and `:predict` of Vertex's text embeddings."""

    name = "gemini_embeddings"
    operation = "embeddings"
    id_family = "gemini.embedding"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(model=text(body, "model"))
        several = items(body, "requests") or items(body, "instances") or [body]
        view.message_count = len(several)
        view.chars_by_role["user"] = sum(
            chars(fields(told.get("content")).get("parts", told.get("content"))) for told in map(fields, several)
        )
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        told = fields(payload)
        usage = told.get("usageMetadata")
        predictions = items(told, "predictions")
        if usage is None and predictions:
            # Vertex counts each text by itself.
            statistics = [fields(fields(fields(p).get("embeddings")).get("statistics")) for p in predictions]
            if any("token_count" in one for one in statistics):
                usage = {"promptTokenCount": sum(count(one.get("token_count")) for one in statistics)}
        if usage is not None and fields(usage).get("promptTokenCount") is not None:
            reading.usage = usage
            reading.fidelity = "final"
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        self.response(reading, event)

    def billed(self, reading: Reading) -> list[Usage]:
        if reading.usage is None:
            return []
        told = fields(reading.usage)
        result = Tally()
        details = told.get("promptTokensDetails", told.get("promptTokenDetails"))
        result.input(count(told.get("promptTokenCount")), modalities=by_modality(details))
        return [result.usage()] if result.buckets or not told["promptTokenCount"] else []

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        del max_tokens  # a vector has no bound
        changed = for_model(body, model)
        if model is not None and "requests" in changed:
            changed["requests"] = [{**fields(one), "model": f"models/{model}"} for one in changed["requests"]]
        return changed


def by_modality(details: Json, counted: str = "tokenCount") -> Mapping[str, int]:
    """`[{modality, tokenCount}]` → tokens by the modalities that have a bucket."""
    found: dict[str, int] = {}
    for detail in details if details.__class__ is list else ():
        told = fields(detail)
        modality = told.get("modality")
        named = MODALITIES.get(modality) if isinstance(modality, (str, int)) else None
        tokens = count(told.get(counted))
        if named is not None and tokens:
            found[named] = found.get(named, 0) + tokens
    return found


def tier_of(value: Json) -> str | None:
    """A service tier in the book's words: `flex`, also where it is spelled `SERVICE_TIER_FLEX`."""
    if not isinstance(value, str) or not value:
        return None
    return value[:64].lower().removeprefix("service_tier_")


def _candidate(reading: Reading, candidate: Mapping[str, Json]) -> None:
    for part in fields(candidate.get("content")).get("parts") or ():
        told = fields(part)
        said = told.get("text")
        if type(said) is str:
            reading.output_chars += len(said)
        elif told.get("functionCall") is not None:
            reading.tool_call_count += 1
    reason = candidate.get("finishReason")
    if reason is not None:
        index = count(candidate.get("index"))
        if index >= len(reading.finish_reasons):
            reading.finish_reasons.append(str(reason)[:64])
        reading.terminal = True
    grounding = candidate.get("groundingMetadata")
    if grounding is not None:
        note_grounding(reading, fields(grounding), GROUNDING)


def note_grounding(reading: Reading, told: Mapping[str, Json], names: tuple[str, str, str, str]) -> None:
    """Keep what an answer was grounded in: distinct queries of the web, and whether maps were asked."""
    web, images, chunks, widget = names
    queries = [*(told.get(web) or ()), *(told.get(images) or ())]
    if queries:
        searches = reading.scratch.setdefault("searches", set[int]())
        searches.update(hash(query) for query in queries if type(query) is str and query)
    if told.get(widget) or any(fields(chunk).get("maps") is not None for chunk in told.get(chunks) or ()):
        reading.scratch["maps"] = True


def add_grounding(result: Tally, reading: Reading, model: str | None) -> None:
    """Gemini 3 bills each distinct query, the generations before it each grounded prompt."""
    searches = len(reading.scratch.get("searches", ()))
    if (model or "").startswith(("gemini-1", "gemini-2")):
        searches = min(searches, 1)
    result.add("web_search", searches)
    result.add("maps_search", int("maps" in reading.scratch))


def _evidence(reading: Reading, counts: Mapping[str, Json]) -> None:
    if "serviceTier" in counts:
        tier = tier_of(counts["serviceTier"])
        if tier is not None:
            reading.service_tier = reading.context["service_tier"] = tier
    if "trafficType" in counts:
        traffic = TRAFFIC_TIERS.get(str(counts["trafficType"]))
        if traffic is not None:
            reading.service_tier = reading.context["service_tier"] = traffic
