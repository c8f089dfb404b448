# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""Recorded calls through libraries that call the provider themselves: what is sent is theirs, the answer recorded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from tests.traffic.calls import NotReplayable
from tests.traffic.recordings import Exchange, fields
from tests.traffic.server import PIN, asked_for_usage

Plan = Callable[[], Any]

ASK: Final[list[Any]] = [{"role": "user", "content": "Where is the shelf?"}]
CHAT, RESPONSES, MESSAGES, EMBEDDINGS = "/chat/completions", "/responses", "/v1/messages", "/embeddings"
DEPLOYMENTS: Final = "/openai/deployments/"

LITELLM: Final = {
    "openai": "openai",
    "deepseek": "deepseek",
    "groq": "groq",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together_ai",
    "x_ai": "xai",
    "mistral_ai": "mistral",
}
"""Provider → what LiteLLM calls it."""


def litellm(exchange: Exchange, url: str) -> Plan:
    """`completion`, `responses` or `embedding`."""
    import litellm as package

    path, body = exchange.bare_path, fields(exchange.request)
    place, model = f"{url}/~{exchange.id}", body.get("model")
    common: dict[str, Any] = {"api_key": "k", "max_retries": 0}
    stream: dict[str, Any] = {"stream": True} if exchange.streaming else {}
    if asked_for_usage(body):
        stream["stream_options"] = {"include_usage": True}
    if exchange.provider == "anthropic" and path.endswith(MESSAGES):
        root = place + path.removesuffix(MESSAGES)
        return _read(
            partial(package.completion, f"anthropic/{model}", ASK, api_base=root, max_tokens=9, **stream, **common)
        )
    if exchange.provider == "azure.ai.openai" and path.startswith(DEPLOYMENTS) and path.endswith(CHAT):
        name = path.removeprefix(DEPLOYMENTS).partition("/")[0]
        more = {"api_base": place, "api_version": "2024-10-21"}
        return _read(partial(package.completion, f"azure/{name}", ASK, **more, **stream, **common))
    route = LITELLM.get(exchange.provider)
    if route and model and path.endswith(CHAT):
        root = place + path.removesuffix(CHAT)
        return _read(partial(package.completion, f"{route}/{model}", ASK, api_base=root, **stream, **common))
    if route == "openai" and model and path.endswith(RESPONSES):
        root = place + path.removesuffix(RESPONSES)
        return _read(
            partial(package.responses, input="Where?", model=f"openai/{model}", api_base=root, **stream, **common)
        )
    if route == "openai" and model and path.endswith(EMBEDDINGS):
        root = place + path.removesuffix(EMBEDDINGS)
        return _read(partial(package.embedding, f"openai/{model}", ["Where?"], api_base=root, **common))
    raise NotReplayable("not driven through LiteLLM")


def pydantic_ai(exchange: Exchange, url: str) -> Plan:
    """A request to a model, without an agent around it: the recorded answer may ask for any tool."""
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.providers.openai import OpenAIProvider

    del url
    path, body = exchange.bare_path, fields(exchange.request)
    name: str = body.get("model") or ""
    common: dict[str, Any] = {"api_key": "k", "max_retries": 0, "timeout": 30.0}
    if exchange.operation == "messages" and not exchange.streaming:
        raise NotReplayable("Pydantic AI asks Anthropic for a stream")
    if exchange.operation == "messages" and path.endswith(MESSAGES):
        claude = AsyncAnthropic(base_url=exchange.origin + path.removesuffix(MESSAGES), **common)
        return partial(
            _pydantic_ai, AnthropicModel(name, provider=AnthropicProvider(anthropic_client=claude)), exchange
        )
    for end, kind in ((CHAT, OpenAIChatModel), (RESPONSES, OpenAIResponsesModel)):
        if path.endswith(end) and name and exchange.provider == "openai":
            gpt = AsyncOpenAI(base_url=exchange.origin + path.removesuffix(end), **common)
            return partial(_pydantic_ai, kind(name, provider=OpenAIProvider(openai_client=gpt)), exchange)
    raise NotReplayable("not driven through Pydantic AI")


def _pydantic_ai(model: Any, exchange: Exchange) -> None:
    from pydantic_ai.direct import model_request_stream_sync, model_request_sync
    from pydantic_ai.messages import ModelRequest

    settings: Any = {"extra_headers": {PIN: exchange.id}}
    ask: Any = [ModelRequest.user_text_prompt("Where is the shelf?")]
    if not exchange.streaming:
        model_request_sync(model, ask, model_settings=settings, instrument=True)
        return
    with model_request_stream_sync(model, ask, model_settings=settings, instrument=True) as stream:
        list(stream)


def azure_ai(exchange: Exchange, url: str) -> Plan:
    """A completion through Azure's own client, of what Azure has answered."""
    from azure.ai.inference import ChatCompletionsClient
    from azure.core.credentials import AzureKeyCredential

    hosted = exchange.provider == "azure.ai.openai" or exchange.detail == "azure.ai.inference"
    if not hosted or not exchange.bare_path.endswith(CHAT):
        raise NotReplayable("not Azure's")
    body = fields(exchange.request)
    place = f"{url}/~{exchange.id}{exchange.bare_path.removesuffix(CHAT)}"
    client = ChatCompletionsClient(endpoint=place, credential=AzureKeyCredential("k"), retry_total=0)
    extras: dict[str, Any] = {"stream_options": {"include_usage": True}} if asked_for_usage(body) else {}
    options: dict[str, Any] = {"model": body.get("model"), "stream": exchange.streaming, "model_extras": extras}
    return _read(partial(client.complete, messages=ASK, **options))


def _read(call: Plan) -> Plan:
    """With the stream that comes read to its end."""

    def made() -> None:
        result = call()
        if hasattr(result, "__next__"):
            list(result)

    return made


PLANS: Final[dict[str, Callable[[Exchange, str], Plan]]] = {
    "litellm": litellm,
    "pydantic_ai": pydantic_ai,
    "azure_ai": azure_ai,
}
