"""How producers spell providers and models, and how the book spells them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

PROVIDERS: Final = {
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "az.ai.openai": "azure",
    "az.ai.inference": "azure",
    "azure_openai": "azure",
    "azure-openai": "azure",
    "aws.bedrock": "aws",
    "aws_bedrock": "aws",
    "bedrock": "aws",
    "amazon-bedrock": "aws",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "gcp.gen_ai": "google",
    "gemini": "google",
    "vertex_ai": "google",
    "vertexai": "google",
    "google-gla": "google",
    "google-vertex": "google",
    "google_genai": "google",
    "google_vertexai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot_ai": "moonshotai",
    "moonshot": "moonshotai",
    "together_ai": "together",
    "together-ai": "together",
    "fireworks_ai": "fireworks",
    "fireworks-ai": "fireworks",
    "voyage": "voyageai",
    "voyage_ai": "voyageai",
    "z_ai": "zai",
    "zhipu": "zhipuai",
    "zhipu_ai": "zhipuai",
    "eleven_labs": "elevenlabs",
    "github_copilot": "github-copilot",
}
"""Name as producers spell it (OpenTelemetry, OpenLLMetry, LiteLLM, pydantic-ai) → provider of the book.

A name that is neither here nor in the book has no price: a local server with a well-known model is
not the provider of that model."""

UNNAMED: Final = frozenset({"", "unknown", "_other"})
"""Spellings of `the producer did not say`: only then does the model's name decide the provider."""

MAX_NAME: Final = 256
"""Longer model names are not looked up: they come from outside."""

_COMPACT_DATE: Final = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_SNAPSHOT: Final = re.compile(r"-(20\d{2})-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])$")
_MODEL_PATH: Final = re.compile(r"^(?:projects/.*/|publishers/.*/)?models/([^/]+)$")
_ARN: Final = "arn:"
_TELLING: Final = re.compile(r"arn:aws[^:]*:bedrock:[^:]*:[^:]*:(?:foundation-model|inference-profile)/([^/]+)$")
"""ARNs of Bedrock that name the model and the profile; all others hide them."""
_BY_TOKEN: Final = re.compile(r":(?:application-inference-profile|(?:default-)?prompt-router)/")
"""Resources of Bedrock that bill the tokens of a model behind them; others bill by the hour or the minute."""
_BEHIND: Final = "#"
_ROUTING: Final = frozenset({"online", "nitro", "floor", "exacto", "thinking", "extended"})


class Candidate(NamedTuple):
    """A spelling to look up, and what to say when it is the one that matches."""

    name: str
    reason: str | None = None


def provider_id(name: str) -> str:
    """The book's name of a provider; the name itself when there is no other."""
    lowered = name.strip().lower()
    return PROVIDERS.get(lowered, lowered)


def behind(asked: str, served: str) -> str:
    """The name to price by when `asked` is an ARN and the answer named another model.

    A profile or a router of one's own bills what it serves, globally or regionally: `ARN#model`, which
    `profile_of` takes apart. A full id of Bedrock says it all; behind any other ARN nothing is billed by token.
    """
    if not asked.startswith(_ARN) or _TELLING.match(asked):
        return served
    if not _BY_TOKEN.search(asked):
        return asked
    return served if "." in served.partition("-")[0] else f"{asked}{_BEHIND}{served}"


def profile_of(model: str) -> tuple[str | None, str]:
    """The ARN of a profile and the model it served; no ARN for any other name."""
    if model.startswith(_ARN) and _BEHIND in model:
        profile, _, served = model.partition(_BEHIND)
        return profile, served
    return None, model


def snapshot_date(model: str) -> str | None:
    """The ISO date in a dated model id; None without one."""
    found = _SNAPSHOT.search(model.lower())
    return "-".join(found.groups()) if found else None


def model_candidates(provider: str, model: str) -> Iterator[Candidate]:
    """Spellings of `model` to look up at the book's `provider`, the most literal first."""
    name = model.strip().lower()
    if not name or len(name) > MAX_NAME:
        return
    if name.startswith(_ARN):
        found = _TELLING.match(name)
        if found is not None:
            yield Candidate(found[1])
        return
    alias = "alias" if name.endswith("-latest") or name == "latest" else None
    yield Candidate(name, alias)
    compact = _COMPACT_DATE.sub(r"-\1-\2-\3", name)
    if compact != name:
        yield Candidate(compact, alias)
    bare = _bare(provider, name)
    if bare != name:
        yield Candidate(bare, alias)
    if "@" in bare:
        stem, _, version = bare.partition("@")
        yield Candidate(f"{stem}-{version}")
        yield Candidate(stem, None if version in ("default", "latest") else "snapshot_unlisted")
    base, _, suffix = bare.rpartition(":")
    if provider == "openrouter" and base and suffix in _ROUTING:
        yield Candidate(base, f"model_suffix:{suffix}")
    undated = _SNAPSHOT.sub("", bare)
    if undated != bare and not bare.startswith("ft:"):
        yield Candidate(undated, "snapshot_unlisted")


def _bare(provider: str, name: str) -> str:
    """The name without the path around it."""
    if found := _MODEL_PATH.match(name):
        return found[1]
    prefix, _, rest = name.partition("/")
    return rest if rest and provider_id(prefix) == provider else name
