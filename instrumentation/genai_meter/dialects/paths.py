"""Which path speaks which dialect, and what is never metered and why."""

from __future__ import annotations

import importlib
import re
from functools import lru_cache
from typing import Final

from genai_meter.dialects.base import Dialect

MODULES: Final = {
    "anthropic_completions": "AnthropicCompletions",
    "anthropic_messages": "AnthropicMessages",
    "bedrock_agent": "BedrockAgent",
    "bedrock_agent_rerank": "bedrock_models:BedrockAgentRerank",
    "bedrock_claude": "bedrock_invoke:BedrockClaude",
    "bedrock_converse": "BedrockConverse",
    "bedrock_embed": "bedrock_models:BedrockEmbed",
    "bedrock_images": "bedrock_models:BedrockImages",
    "bedrock_invoke": "BedrockInvoke",
    "bedrock_rerank": "bedrock_models:BedrockRerank",
    "bedrock_text": "bedrock_invoke:BedrockText",
    "cohere": "Cohere",
    "cohere_classify": "cohere:CohereClassify",
    "cohere_embed": "cohere:CohereEmbed",
    "cohere_generate": "cohere:CohereGenerate",
    "cohere_parse": "cohere:CohereParse",
    "cohere_rerank": "cohere:CohereRerank",
    "gemini": "Gemini",
    "gemini_embeddings": "gemini:GeminiEmbeddings",
    "gemini_live": "GeminiLive",
    "google_decisions": "google_interactions:GoogleDecisions",
    "google_images": "google_media:GoogleImages",
    "google_interactions": "GoogleInteractions",
    "google_videos": "google_media:GoogleVideos",
    "mistral_agents": "mistral_chat:MistralAgents",
    "mistral_chat": "MistralChat",
    "mistral_classifications": "mistral_media:MistralClassifications",
    "mistral_conversations": "MistralConversations",
    "mistral_fim": "mistral_chat:MistralFim",
    "mistral_moderations": "mistral_media:MistralModerations",
    "mistral_ocr": "MistralOCR",
    "mistral_transcriptions": "mistral_media:MistralTranscriptions",
    "ollama": "Ollama",
    "ollama_embed": "ollama:OllamaEmbed",
    "ollama_generate": "ollama:OllamaGenerate",
    "openai_chat": "OpenAIChat",
    "openai_completions": "OpenAICompletions",
    "openai_decisions": "OpenAIDecisions",
    "openai_embeddings": "OpenAIEmbeddings",
    "openai_images": "OpenAIImages",
    "openai_moderations": "OpenAIModerations",
    "openai_realtime": "OpenAIRealtime",
    "openai_responses": "OpenAIResponses",
    "openai_speech": "openai_audio:OpenAISpeech",
    "openai_transcriptions": "openai_audio:OpenAITranscriptions",
    "openai_translations": "openai_audio:OpenAITranslations",
}
"""Every dialect's name → its class, in the module of that name or the one told. A module is imported
when its format is first met: start-up stays light."""

SUFFIXES: Final = {
    "chat/completions": "openai_chat",
    "completions": "openai_completions",
    "responses": "openai_responses",
    "responses/compact": "openai_responses",
    "embeddings": "openai_embeddings",
    "moderations": "openai_moderations",
    "images/generations": "openai_images",
    "images/edits": "openai_images",
    "images/variations": "openai_images",
    "v1/images": "openai_images",
    "audio/speech": "openai_speech",
    "audio/transcriptions": "openai_transcriptions",
    "audio/translations": "openai_translations",
    "v1/messages": "anthropic_messages",
    "v1/complete": "anthropic_completions",
    ":generateContent": "gemini",
    ":streamGenerateContent": "gemini",
    ":embedContent": "gemini_embeddings",
    ":batchEmbedContents": "gemini_embeddings",
    ":predict": "google_images",
    ":predictLongRunning": "google_videos",
    "interactions": "google_interactions",
    "decisions": "openai_decisions",
    "v1beta/decisions": "google_decisions",
    "v1/decisions": "google_decisions",
    "converse": "bedrock_converse",
    "converse-stream": "bedrock_converse",
    "invoke": "bedrock_invoke",
    "invoke-with-response-stream": "bedrock_invoke",
    "v1/chat": "cohere",
    "v2/chat": "cohere",
    "v1/embed": "cohere_embed",
    "v2/embed": "cohere_embed",
    "v1/rerank": "cohere_rerank",
    "v2/rerank": "cohere_rerank",
    "v1/generate": "cohere_generate",
    "v1/summarize": "cohere_generate",
    "v1/classify": "cohere_classify",
    "v2/parse": "cohere_parse",
    "api/chat": "ollama",
    "api/generate": "ollama_generate",
    "api/embed": "ollama_embed",
    "api/embeddings": "ollama_embed",
    "v1/ocr": "mistral_ocr",
    "fim/completions": "mistral_fim",
    "agents/completions": "mistral_agents",
    "mistral/chat": "mistral_chat",
    "mistral/conversations": "mistral_conversations",
    "mistral/moderations": "mistral_moderations",
    "mistral/classifications": "mistral_classifications",
    "mistral/transcriptions": "mistral_transcriptions",
}
"""How a metered POST path ends (one or two segments, or a `:verb`) → dialect. An allow-list: what is
not here is not metered."""

NOT_METERED: Final = (
    (
        r"^(GET|HEAD|OPTIONS) ",
        "reads what was metered when it was made; results of batches and background responses are metered when read",
    ),
    (r"^DELETE ", "deletes; nothing is generated"),
    (r"/count_tokens$|/input_tokens$|/tokenize$|/count-tokens$|:countTokens$|:computeTokens$", "counts only: free"),
    (
        r"/threads(/|$)|/assistants(/|$)",
        "assistants: on their way out; a run tells its usage only to a later read",
    ),
    (
        r"/batches(/|$)|/batchPredictionJobs(/|$)|:batchGenerateContent$|:asyncBatchEmbedContent$",
        "batches: the cost is in the result files; OpenAI's and Anthropic's are metered when they are read",
    ),
    (
        r"/(chat/completions|responses|images|audio)/[^/]+(/cancel)?$",
        "changes or cancels a stored answer; a background response is metered when this shows that it is over",
    ),
    (
        r"/files(/|$)|/uploads?(/|$)|/containers(/|$)|:(importFile|register|uploadToFileSearchStore)$",
        "files and storage: no model is called",
    ),
    (r"/(vector_stores|fileSearchStores|cachedContents|corpora)(/|$)", "storage: billed by time, no usage is told"),
    (r"/(models|tunedModels)(/[^:]*)?$", "lists or changes models"),
    (r"/fine_tuning(/|$)|/tuningJobs(/|$|:)|/evals?(/|$)", "training and evaluation: billed by job, no usage is told"),
    (r"/organizations?(/|$)|/admin(/|$)", "administration"),
    (r"/conversations(/|$)|/skills(/|$)|/prompts(/|$)|/memory_stores(/|$)", "stored state: no model is called"),
    (
        r"/realtime/|/live/|/client_secrets$|/auth_tokens$|/webhooks?(/|$)",
        "opens a session; its answers are metered as they come",
    ),
    (r"/videos?(/|$)|/predictions$", "works in the background: billed by the second of video, no usage is told"),
    (r"/operations/|:fetchPredictOperation$", "asks how far a job is; it was metered when it was ordered"),
    (r"/interactions/[^/]+(/cancel)?$", "changes or cancels a stored answer"),
    (r"/guardrail/|/agents?/|/retrieveAndGenerate|/knowledgebases/", "agents and guardrails: no usage is told"),
    (
        r"^\w+ /(v1/)?(agents|sessions|dreams|chatkit|deployments|environments)(/|$)",
        "agents that the provider runs: they work in the background, their usage is told to a later read",
    ),
    (
        r"^\w+ /(v1/)?(vaults|tunnels|user_profiles|projects|webhook_endpoints|content_provenance_checks)(/|$)"
        r"|/voice_consents(/|$)",
        "administration and checks: nothing is generated",
    ),
)
"""(pattern over `METHOD /path`, reason): what is known and deliberately not metered."""

_EMBEDS: Final = re.compile(r"embedding|gecko|^endpoints/")
"""Models behind `:predict` that make vectors; a model of one's own on an endpoint is taken for one."""

_dialects: Final[dict[str, Dialect]] = {}

_NOT_METERED: Final = tuple((re.compile(pattern), reason) for pattern, reason in NOT_METERED)


def by_name(name: str) -> Dialect:
    """The dialect called `name`; KeyError for an unknown one."""
    found = _dialects.get(name)
    if found is None:
        module, _, class_name = MODULES[name].rpartition(":")
        loaded = importlib.import_module(f"genai_meter.dialects.{module or name}")
        found = _dialects[name] = getattr(loaded, class_name)()
    return found


@lru_cache(maxsize=512)
def for_path(method: str, path: str) -> Dialect | None:
    """The dialect of a logical path (before Azure, Vertex or Bedrock rewrite it); None: not metered."""
    if method.upper() != "POST":
        return None
    segments = path.partition("?")[0].strip("/").split("/")
    if "threads" in segments:
        return None
    last = segments[-1]
    name = SUFFIXES.get("/".join(segments[-2:])) or SUFFIXES.get(last)
    if name in ("bedrock_converse", "bedrock_invoke") and "model" not in segments:
        return None
    if name is None and ":" in last:
        name = SUFFIXES.get(last[last.rindex(":") :])
        if name == "google_images" and _EMBEDS.search("/".join(segments[-2:])):
            # Vertex has one verb for all that it does not call generating content.
            name = "gemini_embeddings"
    return None if name is None else by_name(name)


def not_metered(method: str, path: str) -> str | None:
    """Why a path is not metered; None when it is, or when nobody has thought of it."""
    if for_path(method, path) is not None:
        return None
    line = f"{method.upper()} /{path.partition('?')[0].strip('/')}"
    return next((reason for pattern, reason in _NOT_METERED if pattern.search(line)), None)
