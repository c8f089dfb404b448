# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""An application with other people's instrumentation: `child.py URL PRODUCER,… FAMILY,…` makes the calls.

Where the telemetry goes says the environment, as the OpenTelemetry SDK reads it. Nothing here knows of genai-meter.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

warnings.simplefilter("ignore")  # of the libraries: what they would rather have called

URL = sys.argv[1]
ENDPOINT = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
GPT, REASONER, CLAUDE, EMBEDDING = "gpt-4o", "o4-mini", "claude-sonnet-4-5", "text-embedding-3-small"
BEDROCK_CLAUDE, GEMINI = "us.anthropic.claude-haiku-4-5-20251001-v1:0", "gemini-2.5-flash"
LONG = "The warehouse has twelve aisles and every aisle has a number. " * 80
"""A system prompt of more than 1,024 tokens: what is long enough comes from the prompt cache."""
ASK: list[Any] = [{"role": "user", "content": "Where is the shelf?"}]
LONG_ASK: list[Any] = [{"role": "system", "content": LONG}, *ASK]


# --- producers ----------------------------------------------------------------------------------------
def provider() -> Any:
    """The global tracer provider, exporting over OTLP; made once."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    current = trace.get_tracer_provider()
    if isinstance(current, TracerProvider):
        return current
    made = TracerProvider()
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(made)
    return made


def logs() -> None:
    """The global logger provider, exporting over OTLP; made once."""
    from opentelemetry import _logs
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    if isinstance(_logs.get_logger_provider(), LoggerProvider):
        return
    made = LoggerProvider()
    made.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    _logs.set_logger_provider(made)


def instrument(*names: str) -> None:
    """Start these instrumentors: `module:Class`."""
    import importlib

    provider()
    for name in names:
        module, _, made = name.partition(":")
        getattr(importlib.import_module(module), made)().instrument()


def otel() -> None:
    logs()
    here = "opentelemetry.instrumentation.genai."
    instrument(here + "openai:OpenAIInstrumentor", here + "anthropic:AnthropicInstrumentor")


def genai_meter() -> None:
    """The plug-in, beside the others."""
    installed(ours=True)


def installed(*, ours: bool = False) -> None:
    """Whatever other instrumentations the environment has; or the plug-in."""
    from importlib.metadata import entry_points

    provider()
    logs()
    for point in entry_points(group="opentelemetry_instrumentor"):
        if point.name.startswith("genai_meter") is ours:
            with suppress(ImportError):  # an instrumentation of what is not here
                point.load()().instrument(skip_dep_check=True)


def otel_old() -> None:
    instrument("opentelemetry.instrumentation.openai_v2:OpenAIInstrumentor")


def otel_bedrock() -> None:
    logs()
    instrument("opentelemetry.instrumentation.genai.bedrock:BedrockInstrumentor")


def openllmetry() -> None:
    here = "opentelemetry.instrumentation."
    instrument(here + "openai:OpenAIInstrumentor", here + "anthropic:AnthropicInstrumentor")


def openinference() -> None:
    here = "openinference.instrumentation."
    instrument(here + "openai:OpenAIInstrumentor", here + "anthropic:AnthropicInstrumentor")


def openinference_bedrock() -> None:
    instrument("openinference.instrumentation.bedrock:BedrockInstrumentor")


def anthropic_sdk() -> None:
    provider()


def botocore() -> None:
    instrument("opentelemetry.instrumentation.botocore:BotocoreInstrumentor")


def traceloop() -> None:
    from traceloop.sdk import Traceloop

    Traceloop.init(app_name="shop", api_endpoint=ENDPOINT, disable_batch=True, telemetry_enabled=False)


def openlit() -> None:
    import openlit as package

    package.init(otlp_endpoint=ENDPOINT, application_name="shop", disable_batch=True, disable_metrics=True)


def logfire() -> None:
    import logfire as package

    package.configure(send_to_logfire=False, console=False, service_name="shop")
    package.instrument_openai()
    package.instrument_anthropic()


def langfuse() -> None:
    import importlib

    from langfuse import Langfuse

    importlib.import_module("langfuse.openai")  # wraps the methods of `openai`
    Langfuse(public_key="pk", secret_key="sk", host=ENDPOINT + "/langfuse", tracer_provider=provider())


def litellm() -> None:
    import litellm as package

    package.callbacks = ["otel"]


def pydantic_ai() -> None:
    from pydantic_ai import Agent

    provider()
    Agent.instrument_all()


def azure_ai() -> None:
    from azure.ai.inference.tracing import AIInferenceInstrumentor
    from azure.core.settings import settings

    provider()
    settings.tracing_implementation = "opentelemetry"
    AIInferenceInstrumentor().instrument()


# --- calls --------------------------------------------------------------------------------------------
def openai_calls() -> None:
    import openai

    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="k")
    client.chat.completions.create(model=GPT, messages=ASK)
    client.chat.completions.create(model=GPT, messages=LONG_ASK)
    client.chat.completions.create(model=REASONER, messages=ASK)
    list(
        client.chat.completions.create(
            model=GPT, messages=LONG_ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    if not hasattr(client, "responses"):
        return  # a version from before
    client.responses.create(model=REASONER, input="Where is the shelf?", instructions=LONG)
    list(client.responses.create(model=GPT, input="Where is the shelf?", stream=True))
    client.embeddings.create(model=EMBEDDING, input="Where is the shelf?")

    async def later() -> None:
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="k") as other:
            await other.chat.completions.create(model=GPT, messages=ASK)

    asyncio.run(later())


def anthropic_calls() -> None:
    import anthropic

    client = anthropic.Anthropic(base_url=URL, api_key="k")
    cached: list[Any] = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    client.messages.create(model=CLAUDE, max_tokens=50, messages=ASK)
    for _ in range(2):
        client.messages.create(model=CLAUDE, max_tokens=50, messages=ASK, system=cached)
    list(client.messages.create(model=CLAUDE, max_tokens=50, messages=ASK, system=cached, stream=True))
    hour: list[Any] = [{"type": "text", "text": LONG + LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    client.messages.create(model=CLAUDE, max_tokens=50, messages=ASK, system=hour)
    with client.messages.stream(model=CLAUDE, max_tokens=50, messages=ASK) as stream:
        stream.get_final_message()


def bedrock_calls() -> None:
    import boto3

    client: Any = boto3.client(
        "bedrock-runtime",
        endpoint_url=URL,
        region_name="us-east-1",
        aws_access_key_id="AKIANONE",
        aws_secret_access_key="none",
    )
    ask = [{"role": "user", "content": [{"text": "Where is the shelf?"}]}]
    cached = [{"text": LONG}, {"cachePoint": {"type": "default"}}]
    client.converse(modelId=BEDROCK_CLAUDE, messages=ask)
    for _ in range(2):
        client.converse(modelId=BEDROCK_CLAUDE, messages=ask, system=cached)
    list(client.converse_stream(modelId=BEDROCK_CLAUDE, messages=ask, system=cached)["stream"])
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": ASK})
    client.invoke_model(modelId=BEDROCK_CLAUDE, body=body)["body"].read()
    list(client.invoke_model_with_response_stream(modelId=BEDROCK_CLAUDE, body=body)["body"])


def litellm_calls() -> None:
    import litellm as package

    gpt: dict[str, Any] = {"api_base": f"{URL}/v1", "api_key": "k"}
    package.completion(f"openai/{GPT}", messages=ASK, **gpt)
    package.completion(f"openai/{GPT}", messages=LONG_ASK, **gpt)
    package.completion(f"openai/{REASONER}", messages=ASK, **gpt)
    list(package.completion(f"openai/{GPT}", messages=ASK, stream=True, stream_options={"include_usage": True}, **gpt))
    package.embedding(f"openai/{EMBEDDING}", input=["Where is the shelf?"], **gpt)
    cached = [
        {"role": "system", "content": [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]},
        *ASK,
    ]
    for _ in range(2):
        package.completion(f"anthropic/{CLAUDE}", messages=cached, max_tokens=50, api_base=URL, api_key="k")


def pydantic_ai_calls() -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.providers.openai import OpenAIProvider

    def shelf(aisle: int) -> str:
        """Where it is."""
        return f"Aisle {aisle}"

    gpt = OpenAIChatModel(GPT, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key="k"))
    claude = AnthropicModel(CLAUDE, provider=AnthropicProvider(base_url=URL, api_key="k"))
    Agent(gpt, tools=[shelf]).run_sync("Where is the shelf?")
    Agent(gpt, instructions=LONG).run_sync("Where is the shelf?")
    Agent(claude, instructions=LONG, model_settings={"anthropic_cache_instructions": True}).run_sync("Where is it?")
    Agent(claude, instructions=LONG, model_settings={"anthropic_cache_instructions": True}).run_sync("Where is it?")

    async def streamed() -> None:
        async with Agent(gpt).run_stream("Where is the shelf?") as result:
            await result.get_output()

    asyncio.run(streamed())


def azure_ai_calls() -> None:
    from azure.ai.inference import ChatCompletionsClient
    from azure.core.credentials import AzureKeyCredential

    client = ChatCompletionsClient(endpoint=f"{URL}/v1", credential=AzureKeyCredential("k"))
    client.complete(model="gpt-4.1-mini", messages=ASK)
    client.complete(model="gpt-4.1-mini", messages=LONG_ASK)
    list(
        client.complete(
            model="gpt-4.1-mini", messages=ASK, stream=True, model_extras={"stream_options": {"include_usage": True}}
        )
    )


PRODUCERS: dict[str, Callable[[], None]] = {
    "genai_meter": genai_meter,
    "installed": installed,
    "otel": otel,
    "otel_old": otel_old,
    "otel_bedrock": otel_bedrock,
    "openinference_bedrock": openinference_bedrock,
    "openllmetry": openllmetry,
    "openllmetry_old": openllmetry,
    "openinference": openinference,
    "anthropic_sdk": anthropic_sdk,
    "botocore": botocore,
    "traceloop": traceloop,
    "openlit": openlit,
    "logfire": logfire,
    "langfuse": langfuse,
    "litellm": litellm,
    "pydantic_ai": pydantic_ai,
    "azure_ai": azure_ai,
}
CALLS: dict[str, Callable[[], None]] = {
    "openai": openai_calls,
    "anthropic": anthropic_calls,
    "bedrock": bedrock_calls,
    "litellm": litellm_calls,
    "pydantic_ai": pydantic_ai_calls,
    "azure_ai": azure_ai_calls,
}


def main() -> None:
    for name in sys.argv[2].split(","):
        PRODUCERS[name]()
    from opentelemetry import _logs, trace

    for name in sys.argv[3].split(","):
        with trace.get_tracer("shop").start_as_current_span(f"POST /{name}"):
            CALLS[name]()
    for current in (trace.get_tracer_provider(), _logs.get_logger_provider()):
        if hasattr(current, "force_flush"):
            current.force_flush()


if __name__ == "__main__":
    main()
