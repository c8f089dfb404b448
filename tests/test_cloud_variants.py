"""The younger clients of the clouds on their own hosts (the stand-in is their proxy): who is paid, where, how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from anthropic.lib.bedrock import AnthropicBedrockMantle
from anthropic.lib.google_cloud import AnthropicGoogleCloud
from emission_kit import Telemetry, metered
from genai_meter import emit
from genai_meter.clients.targets import target_of
from genai_meter.instrumentor import AnthropicInstrumentor, OpenAIInstrumentor
from openai import providers
from openai.providers.bedrock import bedrock

from examples.provider import Provider

ASK: Any = {"max_tokens": 7, "messages": [{"role": "user", "content": "Where to?"}]}
"""Three tokens in the stand-in's count, seven out."""
VERTEX: Any = getattr(providers, "vertex")  # noqa: B009 - its types name a package that is not installed


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Both libraries metered, into memory."""
    with metered(OpenAIInstrumentor, AnthropicInstrumentor) as kept:
        yield kept


def foundry(http: httpx2.Client) -> Any:
    url = "http://acme.services.ai.azure.com/anthropic"
    return anthropic.AnthropicFoundry(base_url=url, api_key="k", http_client=http)


def mantle(http: httpx2.Client) -> Any:
    url = "http://bedrock-mantle.us-east-1.api.aws/anthropic"
    return AnthropicBedrockMantle(aws_region="us-east-1", api_key="k", base_url=url, http_client=http)


def platform_on_aws(http: httpx2.Client) -> Any:
    url = "http://aws-external-anthropic.us-east-1.api.aws"
    return anthropic.AnthropicAWS(
        aws_region="us-east-1", workspace_id="wrkspc_1", api_key="k", base_url=url, http_client=http
    )


def platform_on_google(http: httpx2.Client) -> Any:
    url = "http://claude.googleapis.com"
    return AnthropicGoogleCloud(
        project="project-1", location="global", workspace_id="wrkspc_1", skip_auth=True, base_url=url, http_client=http
    )


def openai_on_bedrock(http: httpx2.Client) -> Any:
    # The real hosts must be called by https, which a proxy does not see into.
    url = "http://bedrock.gateway.example/openai/v1"
    return openai.BedrockOpenAI(aws_region="us-west-2", api_key="k", base_url=url, http_client=http)


def openai_with_bedrock(http: httpx2.Client) -> Any:
    url = "http://bedrock.gateway.example/openai/v1"
    return openai.OpenAI(provider=bedrock(region="us-west-2", api_key="k", base_url=url), http_client=http)


def azure(http: httpx2.Client) -> Any:
    url = "http://acme.openai.azure.com"
    return openai.AzureOpenAI(azure_endpoint=url, api_key="k", api_version="2024-10-21", http_client=http)


def azure_v1(http: httpx2.Client) -> Any:
    return openai.OpenAI(base_url="http://acme.openai.azure.com/openai/v1", api_key="k", http_client=http)


# --- ways of asking
def message(client: Any, model: str) -> None:
    assert client.messages.create(model=model, **ASK).stop_reason == "max_tokens"


def message_stream(client: Any, model: str) -> None:
    with client.messages.stream(model=model, **ASK) as stream:
        assert stream.get_final_message().stop_reason == "max_tokens"


def chat(client: Any, model: str) -> None:
    assert client.chat.completions.create(model=model, **ASK).choices[0].finish_reason == "length"


def chat_stream(client: Any, model: str) -> None:
    *_, last = client.chat.completions.create(model=model, stream=True, **ASK)
    assert last.choices[0].finish_reason == "length"


CLAUDE = (message, message_stream)
CHAT = (chat, chat_stream)

EXPECTED = ("gen_ai.provider.name", "server.address", "cloud.region", "genai_meter.provider.account")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("make", "ways", "model", "expected", "status", "pico"),
    [
        # Haiku 4.5: 1 and 5 USD a million tokens; in a region of AWS or Google a tenth more.
        (
            foundry,
            CLAUDE,
            "claude-haiku-4-5",
            ("azure.ai.inference", "acme.services.ai.azure.com", None, None),
            "estimated",
            3 * 1_000_000 + 7 * 5_000_000,
        ),
        (
            mantle,
            CLAUDE,
            "anthropic.claude-haiku-4-5",
            ("aws.bedrock", "bedrock-mantle.us-east-1.api.aws", "us-east-1", None),
            "exact",
            3 * 1_100_000 + 7 * 5_500_000,
        ),
        (
            platform_on_aws,
            CLAUDE,
            "claude-haiku-4-5",
            ("anthropic", "aws-external-anthropic.us-east-1.api.aws", "us-east-1", "wrkspc_1"),
            "exact",
            3 * 1_000_000 + 7 * 5_000_000,
        ),
        (
            platform_on_google,
            CLAUDE,
            "claude-haiku-4-5",
            ("anthropic", "claude.googleapis.com", None, "wrkspc_1"),
            "exact",
            3 * 1_000_000 + 7 * 5_000_000,
        ),
        (
            openai_on_bedrock,
            CHAT,
            "openai.gpt-oss-120b",
            ("aws.bedrock", "bedrock.gateway.example", "us-west-2", None),
            "exact",
            3 * 150_000 + 7 * 600_000,
        ),
        (
            openai_with_bedrock,
            CHAT,
            "openai.gpt-oss-120b",
            ("aws.bedrock", "bedrock.gateway.example", None, None),
            "exact",
            3 * 150_000 + 7 * 600_000,
        ),
        # GPT 4.1: 2 and 8 USD; a deployment does not tell whether it is a global one.
        (
            azure,
            CHAT,
            "gpt-4.1",
            ("azure.ai.openai", "acme.openai.azure.com", None, None),
            "estimated",
            3 * 2_000_000 + 7 * 8_000_000,
        ),
        (
            azure_v1,
            CHAT,
            "gpt-4.1",
            ("azure.ai.openai", "acme.openai.azure.com", None, None),
            "estimated",
            3 * 2_000_000 + 7 * 8_000_000,
        ),
    ],
)
def test_a_client_on_its_own_host(
    telemetry: Telemetry,
    provider: Provider,
    make: Callable[[httpx2.Client], Any],
    ways: tuple[Callable[[Any, str], None], ...],
    model: str,
    expected: tuple[str | None, ...],
    status: str,
    pico: int,
    streamed: bool,
) -> None:
    with make(httpx2.Client(proxy=provider.url)) as client:
        ways[streamed](client, model)
    emit.flush()
    (event,) = telemetry.events
    told = event.attributes
    assert tuple(told.get(name) for name in EXPECTED) == expected
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (3, 7)
    assert (told["genai_meter.usage.source"], told["genai_meter.status"]) == ("provider", "ok")
    assert (told["genai_meter.cost.status"], told["genai_meter.cost.effective"]) == (status, pico)
    assert len(telemetry.spans) == 1


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: openai.BedrockOpenAI(aws_region="us-west-2", api_key="k"),
            ("bedrock-mantle.us-west-2.api.aws", "aws.bedrock", "us-west-2"),
        ),
        (
            lambda: openai.OpenAI(provider=bedrock(region="us-west-2", api_key="k")),
            ("bedrock-mantle.us-west-2.api.aws", "aws.bedrock", "us-west-2"),
        ),
        (
            lambda: openai.OpenAI(provider=VERTEX(project="p", location="global", token_provider=lambda: "t")),
            ("aiplatform.googleapis.com", "gcp.vertex_ai", None),
        ),
        (
            lambda: AnthropicBedrockMantle(aws_region="us-east-1", api_key="k"),
            ("bedrock-mantle.us-east-1.api.aws", "aws.bedrock", "us-east-1"),
        ),
        (
            lambda: anthropic.AnthropicFoundry(resource="acme", api_key="k"),
            ("acme.services.ai.azure.com", "azure.ai.inference", None),
        ),
    ],
)
def test_hosts_that_are_called_by_https(make: Callable[[], Any], expected: tuple[str, str, str | None]) -> None:
    """Whom a client would pay by its own address; nothing is sent."""
    with make() as client:
        target = target_of(client, "openai")
    assert (target.host, target.provider, target.region) == expected
