"""Who is paid, read from the host a client talks to, or from the client's class when the host says nothing."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from genai_meter import environment
from genai_meter.call import Target

HOSTS: Final = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "openai.azure.us": "azure.ai.openai",
    "openai.azure.cn": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "azure-api.net": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "inference.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "claude.googleapis.com": "anthropic",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "aiplatform.us.rep.googleapis.com": "gcp.vertex_ai",
    "aiplatform.eu.rep.googleapis.com": "gcp.vertex_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "api.x.ai": "x_ai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "openrouter.ai": "openrouter",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.moonshot.ai": "moonshotai",
    "api.moonshot.cn": "moonshotai",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zhipuai",
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "api.novita.ai": "novita",
    "api.avian.io": "avian",
    "api.baseten.co": "baseten",
    "inference.baseten.co": "baseten",
    "api.voyageai.com": "voyageai",
    "api.githubcopilot.com": "github-copilot",
    "router.huggingface.co": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    "endpoints.huggingface.cloud": "huggingface",
    "ollama.com": "ollama",
    "api.inference.crusoecloud.com": "crusoe",
    "inference.heroku.com": "heroku",
    "api.writer.com": "writer",
    "snowflakecomputing.com": "snowflake",
    "databricks.com": "databricks",
    "azuredatabricks.net": "databricks",
    "api.sambanova.ai": "sambanova",
    "api.deepinfra.com": "deepinfra",
    "integrate.api.nvidia.com": "nvidia",
    "api.studio.nebius.com": "nebius",
    "api.tokenfactory.nebius.com": "nebius",
    "api.hyperbolic.xyz": "hyperbolic",
    "api.arcee.ai": "arcee",
    "api.doubleword.ai": "doubleword",
    "api.cloudflare.com": "cloudflare",
    "dashscope.aliyuncs.com": "alibaba",
    "dashscope-intl.aliyuncs.com": "alibaba",
    "endpoints.kepler.ai.cloud.ovh.net": "ovhcloud",
    "api.ai21.com": "ai21",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
}
"""Host, or its end behind a dot → `gen_ai.provider.name`; genai-prices' id where no convention exists."""

LOCAL_PORTS: Final = {11434: "ollama", 1234: "lm_studio"}
"""Port of a local server that nobody else uses → provider. vLLM's 8000 and llama.cpp's 8080 may be anything."""

_LOCAL: Final = ("localhost", "127.0.0.1", "0.0.0.0", "::1", "host.docker.internal")

HUGGING_FACE: Final = "router.huggingface.co"
ROUTED: Final = frozenset(
    {"cerebras", "fireworks-ai", "groq", "hyperbolic", "nebius", "novita", "nscale", "ovhcloud", "publicai"}
    | {"sambanova", "together"}
)
"""Providers that Hugging Face routes to and bills, at prices of their own: the first segment of the path."""

_VERTEX_REGIONAL: Final = "-aiplatform.googleapis.com"
_AWS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
"""Ends of hosts of AWS. What is behind one of them says its name in front: Bedrock, a load balancer, anything."""

CLASSES: Final = (
    ("Foundry", "azure.ai.inference"),
    ("Azure", "azure.ai.openai"),
    ("Bedrock", "aws.bedrock"),
    ("Vertex", "gcp.vertex_ai"),
    ("GeminiNextGen", "gcp.gemini"),
)
"""Part of a client's class name → provider, for hosts that are not in the table (gateways, private endpoints)."""

TELLS_USAGE: Final = frozenset(
    {"deepseek", "groq", "huggingface", "mistral_ai", "openrouter", "perplexity", "together", "x_ai"}
    | {f"huggingface_{name}" for name in ROUTED}
)
"""Providers whose chat streams tell their usage without being asked."""

_FIRST_PARTY_REGIONS: Final = {"eu.api.openai.com": "eu", "us.api.openai.com": "us"}

_Known: TypeAlias = tuple[weakref.ref[Any], object, object, Target]

_targets: Final[dict[int, _Known]] = {}
"""Identity of a client → the client, its base URL and key, and what was read from them."""


def target_of(client: Any, sdk: str, url: str = "") -> Target:
    """Where `client` sends a request for `url`; `sdk` is the client library's package name."""
    # The property costs as much as all the rest; where the SDK keeps it, it is the same object until it is set anew.
    try:
        base_url, api_key = client._base_url or client.base_url, client.api_key
    except AttributeError:
        base_url, api_key = client.base_url, getattr(client, "api_key", None)
    if "://" in url:
        return _read(client, sdk, url, api_key)
    # By identity: a subclass with an equality of its own may have no hash.
    known = _targets.get(id(client))
    if known is not None and known[0]() is client and known[1] is base_url and known[2] is api_key:
        return known[3]
    target = _read(client, sdk, str(client.base_url), api_key)
    forget = partial(_forget, id(client))
    _targets[id(client)] = (weakref.ref(client, forget), base_url, api_key, target)
    return target


def _forget(identity: int, gone: weakref.ref[Any]) -> None:
    known = _targets.get(identity)
    if known is not None and known[0] is gone:
        del _targets[identity]


def tells_usage(target: Target) -> bool:
    """True where a chat stream tells its usage unasked; not for a server of one's own behind a provider's library."""
    return target.provider in TELLS_USAGE and _listed(target.host) in TELLS_USAGE


def provider_of(host: str, class_name: str, default: str, port: int | None = None, path: str = "") -> str:
    """The provider behind `host`, called by a client of the class `class_name`."""
    if (known := environment.settings().providers) and (found := _configured(known, host, port)):
        return found
    if class_name.endswith("AnthropicAWS"):
        # Anthropic's own platform, sold through AWS on AWS hosts: not Bedrock.
        return "anthropic"
    if host == HUGGING_FACE and (first := path.strip("/").partition("/")[0]) in ROUTED:
        return f"huggingface_{first}"
    if found := _listed(host):
        return found
    if port in LOCAL_PORTS and host in _LOCAL:
        return LOCAL_PORTS[port]
    if host.endswith(_VERTEX_REGIONAL):
        return "gcp.vertex_ai"
    if host.endswith(_AWS) and any(label.startswith("bedrock") for label in host.split(".")):
        return "aws.bedrock"
    return next((provider for part, provider in CLASSES if part in class_name), default)


def _listed(host: str) -> str | None:
    rest = host
    while rest:
        if found := HOSTS.get(rest):
            return found
        rest = rest.partition(".")[2]
    return None


def _configured(known: Mapping[str, str], host: str, port: int | None) -> str | None:
    """What the user says of a host, the most exact first."""
    rest = host
    while rest:
        if found := known.get(f"{rest}:{port}") or known.get(rest):
            return found
        rest = rest.partition(".")[2]
    return None


def _read(client: Any, sdk: str, base_url: str, api_key: object) -> Target:
    url, class_name = urlsplit(base_url), type(client).__name__.lstrip("_")
    host = url.hostname or ""
    # The sync and the async SDK client share one default: the provider that the library is named after.
    # `OpenAI(provider=bedrock(…))` is of no class of its own.
    runtime = getattr(getattr(client, "_provider_runtime", None), "name", None)
    kind = class_name + runtime.title() if isinstance(runtime, str) else class_name
    provider = provider_of(host, kind, sdk, url.port, url.path)
    return Target(
        provider=provider,
        host=host,
        port=url.port,
        region=_first(client, "aws_region", "region") or _FIRST_PARTY_REGIONS.get(host) or _aws_region(host),
        account=_first(client, "project_id", "project", "organization", "workspace_id"),
        deployment=_first(client, "_azure_deployment"),
        # `<missing API key>` stands in Azure clients that have a token instead.
        api_key=(api_key if isinstance(api_key, str) and api_key[:1] != "<" else None)
        or _first(client, "aws_access_key"),
        sdk=f"{sdk}.{class_name}",
    )


def _aws_region(host: str) -> str | None:
    """The region in a host of Bedrock, `bedrock-runtime.us-east-1.amazonaws.com`."""
    service, _, rest = host.partition(".")
    region, _, end = rest.partition(".")
    return region if service.startswith("bedrock") and f".{end}" in _AWS else None


def _first(client: Any, *names: str) -> str | None:
    """The first of the attributes that is set."""
    values = (getattr(client, name, None) for name in names)
    return next((value for value in values if isinstance(value, str) and value), None)
