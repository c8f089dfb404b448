"""What Bedrock's models do that is no generation of text: embeddings, reranking, pictures; and which is which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.bedrock_converse import serve
from genai_meter.dialects.bedrock_invoke import ANTHROPIC_VERSION, BedrockInvoke
from genai_meter.dialects.buckets import count
from genai_meter.dialects.requests import chars, items, size, text, whole
from genai_meter.usage import Usage

PER_SEARCH: Final = 100
"""Documents of one query that are billed as one search."""

_EMBEDDING: Final = ("embed", "marengo")
"""Parts of the names of models that embed."""
_PICTURES: Final = ("stability.", "titan-image", "nova-canvas")
"""Parts of the names of models that draw."""


def dialect_of(body: Mapping[str, Json]) -> str:
    """Name of the dialect of an InvokeModel body, which has its `modelId` with it."""
    model, task = text(body, "modelId") or "", str(body.get("taskType"))
    if "query" in body and "documents" in body:
        return "bedrock_rerank"
    if task.endswith("EMBEDDING") or "texts" in body or any(part in model for part in _EMBEDDING):
        return "bedrock_embed"
    if "taskType" in body or "text_prompts" in body or any(part in model for part in _PICTURES):
        return "bedrock_images"
    if ANTHROPIC_VERSION in body and "messages" in body:
        return "bedrock_claude"
    if "messages" not in body and ("prompt" in body or "inputText" in body):
        return "bedrock_text"
    return "bedrock_invoke"


def served(reading: Reading, told: Mapping[str, Json]) -> None:
    """Tier and latency as served, where InvokeModel tells them beside the body."""
    tier, latency = told.get("serviceTier"), told.get("performanceConfigLatency")
    serve(reading, tier if type(tier) is str else None, latency if type(latency) is str else None)


class BedrockEmbed(BedrockInvoke):
    """Embeddings of Titan, Nova, Cohere, TwelveLabs. All but Titan tell their usage in the headers alone."""

    name = "bedrock_embed"
    operation = "embeddings"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(model=text(body, "modelId"), message_count=size(body, "texts"))
        view.embedding_dimensions = whole(body, "dimensions") or whole(body, "output_dimension")
        given = items(body, "texts") or body.get("inputText")
        if given is None:
            given = fields(fields(body.get("singleEmbeddingParams")).get("text")).get("value")
        view.chars_by_role["user"] = chars(given)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        told = fields(payload)
        reading.response_id = text(told, "id") or None
        tokens = count(told.get("inputTextTokenCount"))
        if tokens:
            reading.scratch["input"] = tokens
            reading.fidelity = "final"
        reading.terminal = True

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        del max_tokens  # nothing is generated
        return super().apply(body, model=model)


class BedrockImages(BedrockEmbed):
    """Pictures of Titan, Nova Canvas and Stability: one unit each, no tokens."""

    name = "bedrock_images"
    operation = "image"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        config = fields(body.get("imageGenerationConfig"))
        view = RequestView(model=text(body, "modelId"), choice_count=whole(config, "numberOfImages"))
        view.output_type = "image"
        prompt = fields(body.get("textToImageParams")).get("text", body.get("prompt", body.get("text_prompts")))
        view.chars_by_role["user"] = chars(prompt)
        quality = text(config, "quality")
        if quality is not None and len(quality) <= 32:
            view.context["image_quality"] = quality
        width, height = whole(config, "width"), whole(config, "height")
        if width and height:
            view.context["image_size"] = f"{width}x{height}"[:32]
        return view

    def headers(self, reading: Reading, headers: Mapping[str, str]) -> None:
        """What the headers count is not what is billed."""

    def response(self, reading: Reading, payload: Json) -> None:
        told = fields(payload)
        made = told.get("images") or told.get("artifacts") or ()
        reading.scratch["images"] = len(made)
        reading.finish_reasons = [reason for reason in told.get("finish_reasons") or () if type(reason) is str]
        if made:
            reading.fidelity = "final"
        reading.terminal = True

    def usages(self, reading: Reading, request: RequestView) -> list[Usage]:
        # A body that the caller did not read still has what was ordered.
        images = reading.scratch.get("images", (request.choice_count or 1) if reading.fidelity == "none" else 0)
        return [Usage({"images": images})] if images else []


class BedrockRerank(BedrockEmbed):
    """Cohere's and Amazon's rerankers: billed by the query, up to a hundred documents each."""

    name = "bedrock_rerank"
    operation = "rerank"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(model=text(body, "modelId"), message_count=size(body, "documents"))
        view.chars_by_role["user"] = chars(body.get("query"), 1) + chars(items(body, "documents"))
        return view

    def headers(self, reading: Reading, headers: Mapping[str, str]) -> None:
        """What the headers count is not what is billed."""

    def response(self, reading: Reading, payload: Json) -> None:
        reading.scratch["answered"] = "results" in fields(payload)
        reading.terminal = True

    def usages(self, reading: Reading, request: RequestView) -> list[Usage]:
        return searches(request) if reading.scratch.get("answered") else []


def searches(request: RequestView) -> list[Usage]:
    """What one query over the documents of a request is billed as."""
    return [Usage({"rerank_search": -(-(request.message_count or 1) // PER_SEARCH)})]


class BedrockAgentRerank(Dialect):
    """`POST /rerank` of the agents' runtime: the same models, another body."""

    name = "bedrock_agent_rerank"
    operation = "rerank"
    id_family = "bedrock.rerank"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        config = fields(fields(body.get("rerankingConfiguration")).get("bedrockRerankingConfiguration"))
        sources = items(body, "sources") or []
        queries = items(body, "queries") or []
        view = RequestView(model=text(fields(config.get("modelConfiguration")), "modelArn"))
        view.message_count = len(sources)
        view.chars_by_role["user"] = chars([fields(query).get("textQuery") for query in queries]) + sum(
            chars(fields(fields(source).get("inlineDocumentSource")).get("textDocument")) for source in sources
        )
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        reading.scratch["answered"] = "results" in fields(payload)
        reading.terminal = True

    def usages(self, reading: Reading, request: RequestView) -> list[Usage]:
        return searches(request) if reading.scratch.get("answered") else []

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        del model, max_tokens  # the model is named by an ARN deep inside, and nothing is generated
        return dict(body)
