"""Recorded calls through the Vercel AI SDK and its packages of providers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from tests.producers import running
from tests.traffic.recordings import Exchange, fields, load

CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS = "/chat/completions", "/completions", "/responses", "/embeddings"


class Package(NamedTuple):
    """One of the SDK's packages of providers."""

    name: str
    create: str
    """What it exports."""
    ends: tuple[str, ...] = ()
    """Of the paths that it calls."""


_OPENAI: Final = Package("openai", "createOpenAI", (CHAT, RESPONSES, COMPLETIONS, EMBEDDINGS))
_ANTHROPIC: Final = Package("anthropic", "createAnthropic", ("/v1/messages",))
_GOOGLE: Final = Package("google", "createGoogleGenerativeAI")
_VERTEX: Final = Package("google-vertex", "createVertex")
_BEDROCK: Final = Package("amazon-bedrock", "createAmazonBedrock")
_PACKAGES: Final = {
    "azure.ai.openai": Package("azure", "createAzure", _OPENAI.ends),
    "mistral_ai": Package("mistral", "createMistral", (CHAT, EMBEDDINGS)),
    "cohere": Package("cohere", "createCohere", ("/v2/chat", "/v2/embed")),
    "groq": Package("groq", "createGroq", (CHAT,)),
    "deepseek": Package("deepseek", "createDeepSeek", (CHAT,)),
    "x_ai": Package("xai", "createXai", (RESPONSES,)),
    "perplexity": Package("perplexity", "createPerplexity", (CHAT,)),
    "together": Package("togetherai", "createTogetherAI", (CHAT, COMPLETIONS)),
}
"""Provider → its own package; what that does not call goes through OpenAI's or Anthropic's, at that host."""

_METHODS: Final = {CHAT: "chat", COMPLETIONS: "completion", RESPONSES: "responses"}
"""Of the packages that have several."""
_SEVERAL: Final = ("openai", "azure", "xai")
_GOOGLE_PATH: Final = re.compile(r"(/.+)/models/([^/:]+):(?:generateContent|streamGenerateContent)")
_VERTEX_PATH: Final = re.compile(r".*/projects/([^/]+)/locations/([^/]+)/.*")
_BEDROCK_PATH: Final = re.compile(r"/model/([^/]+)/converse(?:-stream)?")
_DEPLOYMENT: Final = re.compile(r"/openai/deployments/([^/]+)/.+")
_PROVIDERS: Final = frozenset(
    {*_PACKAGES, "openai", "anthropic", "gcp.gemini", "gcp.vertex_ai", "aws.bedrock"}
    | {"huggingface", "ollama", "openrouter", "other"}
)


class Run(NamedTuple):
    """A process of Node that makes recorded calls."""

    producer: str
    """As `running.VERCEL` has it."""
    providers: frozenset[str] = _PROVIDERS

    def again(self, endpoint: str, proxy: str, file: Path, out: Path) -> list[dict[str, Any]]:
        """Make the calls of a traffic file; of each its trace, and how it ended."""
        place = running.place(self.producer)
        calls = out.with_name("planned.jsonl")
        with calls.open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(plan(exchange, proxy)) + "\n" for exchange in load([file]))
        command = ["node", place / "vercel_again.mjs", running.VERCEL[self.producer], calls, out]
        return running.lines(command, running.environ(endpoint, "shop"), out)


def plan(exchange: Exchange, url: str) -> dict[str, Any]:
    """The call as `vercel_again.mjs` reads it."""
    planned = _by_model(exchange) or _by_end(exchange)
    if planned is None or exchange.framing == "json_array":
        return {"id": exchange.id, "skipped": "not driven through the Vercel AI SDK"}
    package, root, model, more = planned
    return {
        "id": exchange.id,
        "url": url,
        "path": exchange.bare_path,
        "module": f"@ai-sdk/{package.name}",
        "create": package.create,
        "model": model,
        "stream": exchange.streaming,
        "kind": "embed" if exchange.bare_path.endswith((EMBEDDINGS, "/embed")) else "text",
        **more,
        "settings": {"baseURL": exchange.origin + root, **more.get("settings", {})},
    }


def through_openai(exchange: Exchange) -> bool:
    """OpenAI's package makes the call, whoever answers."""
    return plan(exchange, "").get("create") == _OPENAI.create


_Planned = tuple[Package, str, str, dict[str, Any]]


def _by_model(exchange: Exchange) -> _Planned | None:
    """Calls whose path names the model."""
    path = exchange.bare_path
    if exchange.provider in ("gcp.gemini", "gcp.vertex_ai") and (found := _GOOGLE_PATH.fullmatch(path)):
        if exchange.provider == "gcp.gemini":
            return _GOOGLE, found[1], found[2], {}
        place = _VERTEX_PATH.fullmatch(path)
        settings = {"project": place[1], "location": place[2]} if place else {}
        return _VERTEX, found[1], found[2], {"settings": settings}
    if found := _BEDROCK_PATH.fullmatch(path):
        return _BEDROCK, "", unquote(found[1]), {}
    return None


def _by_end(exchange: Exchange) -> _Planned | None:
    path, model = exchange.bare_path, fields(exchange.request).get("model")
    end = next(
        (end for package in (*_PACKAGES.values(), _OPENAI, _ANTHROPIC) for end in package.ends if path.endswith(end)),
        None,
    )
    deployment = _DEPLOYMENT.fullmatch(path)
    if end is None or not (model or deployment):
        return None
    own = _PACKAGES.get(exchange.provider)
    package = next(package for package in (own, _OPENAI, _ANTHROPIC) if package and end in package.ends)
    more: dict[str, Any] = {"method": _METHODS[end]} if package.name in _SEVERAL and end in _METHODS else {}
    if deployment:
        more["settings"] = {"apiVersion": "2024-10-21", "useDeploymentBasedUrls": True}
        return package, "/openai", deployment[1], more
    return package, path.removesuffix(end) + ("/v1" if package is _ANTHROPIC else ""), str(model), more
