"""Who is paid behind a host, and which model is behind a deployment: our tables, and what the user adds to them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from emission_kit import Telemetry, call, telemetry
from genai_meter import emit, environment
from genai_meter.call import Target
from genai_meter.clients.targets import provider_of, tells_usage
from genai_meter.instrumentor import OpenAIInstrumentor

from examples.provider import Provider

ASK: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Where to?"}]}
SAID: Any = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "north"}}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
}


@pytest.fixture
def openai_metered() -> Iterator[None]:
    OpenAIInstrumentor().instrument()
    yield
    OpenAIInstrumentor().uninstrument()


@pytest.mark.parametrize(
    ("host", "port", "path", "provider"),
    [
        ("api.groq.com", None, "/openai/v1", "groq"),
        ("api.together.xyz", None, "/v1", "together"),
        ("api.fireworks.ai", None, "/inference/v1", "fireworks"),
        ("api.perplexity.ai", None, "", "perplexity"),
        ("my-models.services.ai.azure.com", None, "/models", "azure.ai.inference"),
        ("acct.snowflakecomputing.com", None, "/api/v2/cortex/v1", "snowflake"),
        ("adb-1.azuredatabricks.net", None, "/serving-endpoints", "databricks"),
        ("abc.eu-west-1.aws.endpoints.huggingface.cloud", None, "/v1", "huggingface"),
        ("router.huggingface.co", None, "/v1", "huggingface"),
        ("router.huggingface.co", None, "/together/v1", "huggingface_together"),
        ("router.huggingface.co", None, "/nobody-knows/v1", "huggingface"),
        ("localhost", 11434, "/v1", "ollama"),
        ("127.0.0.1", 1234, "/v1", "lm_studio"),
        ("llm.example.com", 11434, "/v1", "openai"),
        ("localhost", 8000, "/v1", "openai"),
    ],
)
def test_hosts_that_are_known(host: str, port: int | None, path: str, provider: str) -> None:
    assert provider_of(host, "OpenAI", "openai", port, path) == provider


@pytest.mark.parametrize(
    ("host", "port", "provider"),
    [
        ("llm.internal", None, "vllm"),
        ("eu.llm.internal", 8443, "vllm"),
        ("localhost", 8000, "llama.cpp"),
        ("localhost", 8001, "openai"),
        # The user knows better than our table.
        ("api.groq.com", None, "my-proxy"),
        ("notllm.internal", None, "openai"),
    ],
)
def test_hosts_that_the_user_names(host: str, port: int | None, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_METER_PROVIDERS", "LLM.internal=vllm, localhost:8000=llama.cpp, api.groq.com=my-proxy")
    environment.reload()
    assert provider_of(host, "OpenAI", "openai", port) == provider
    monkeypatch.undo()
    environment.reload()


@pytest.mark.usefixtures("openai_metered")
def test_a_server_of_ones_own_end_to_end(provider: Provider) -> None:
    address = provider.url.removeprefix("http://")
    with telemetry(PROVIDERS=f"{address}=vllm") as pipeline:
        openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k").chat.completions.create(**ASK)
        emit.flush()
        assert told(pipeline)["gen_ai.provider.name"] == "vllm"
        assert told(pipeline)["genai_meter.cost.status"] == "unpriced"


def test_a_provider_that_tells_its_usage_unasked_does_so_on_its_own_host_only() -> None:
    assert tells_usage(Target("groq", "api.groq.com"))
    assert tells_usage(Target("huggingface_together", "router.huggingface.co"))
    assert not tells_usage(Target("groq", "127.0.0.1", 8080))
    assert not tells_usage(Target("openai", "api.openai.com"))


def test_the_first_together_is_named_as_not_metered(tmp_path: Path) -> None:
    """Version 1 is other code, told by its module."""
    package = tmp_path / "together" / "abstract"
    package.mkdir(parents=True)
    for file in (package.parent / "__init__.py", package / "__init__.py", package / "api_requestor.py"):
        file.write_text("")
    program = (
        "from genai_meter.instrumentor import TogetherInstrumentor; TogetherInstrumentor().instrument();"
        "import together.abstract.api_requestor"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        "genai_meter: together is installed but not metered: BaseClient._build_request is missing"
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "GENAI_METER_PROVIDERS",
            "llm.internal=Our vLLM",
            "<host>[:<port>]=<provider>, the provider in small letters, digits, . _ and -; using the default (unset)",
        ),
        (
            "GENAI_METER_DEPLOYMENTS",
            "chat-prod",
            "<deployment>=<model> or <host>/<deployment>=<model>; using the default (unset)",
        ),
    ],
)
def test_a_wrong_table_is_named(name: str, value: str, expected: str, caplog: pytest.LogCaptureFixture) -> None:
    read = environment.read({name: value})
    assert (read.providers, read.deployments) == ({}, {})
    assert caplog.messages == [f"{name}: wrong value, expected {expected}"]


def told(pipeline: Telemetry) -> dict[str, Any]:
    """The one usage event."""
    (event,) = pipeline.events
    return event.attributes


@pytest.mark.usefixtures("openai_metered")
def test_a_deployment_costs_what_its_model_costs(provider: Provider) -> None:
    # The stand-in answers with the name it was asked for, as some deployments do.
    costs: list[tuple[str | None, int]] = []
    for model, deployments in (("gpt-4o-mini", ""), ("chat-prod", "chat-prod=gpt-4o-mini-2024-07-18")):
        with telemetry(PROVIDERS="127.0.0.1=azure.ai.openai", DEPLOYMENTS=deployments) as pipeline:
            openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k").chat.completions.create(
                **(ASK | {"model": model})
            )
            emit.flush()
            event = told(pipeline)
            assert event["gen_ai.request.model"] == model
            costs.append((event.get("gen_ai.response.model"), event["genai_meter.cost.effective"]))
    assert costs[0] == costs[1]
    assert costs[0][1] > 0


@pytest.mark.parametrize(
    ("deployments", "answered", "model", "status"),
    [
        ("", None, None, "unpriced"),
        ("chat-prod=gpt-4o-mini", None, "gpt-4o-mini", "estimated"),
        ("res.openai.azure.com/chat-prod=gpt-4o-mini", "chat-prod", "gpt-4o-mini", "estimated"),
        ("other.openai.azure.com/chat-prod=gpt-4o-mini", "chat-prod", "chat-prod", "unpriced"),
        # What the answer names is what was served, whatever the table says.
        ("chat-prod=gpt-4o-mini", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06", "estimated"),
    ],
)
def test_answers_without_a_model(deployments: str, answered: str | None, model: str | None, status: str) -> None:
    # Azure's prices are estimates: a deployment's kind and region are not told.
    answer = SAID if answered is None else SAID | {"model": answered}
    with telemetry(DEPLOYMENTS=deployments) as pipeline:
        host, body = "res.openai.azure.com", ASK | {"model": "chat-prod"}
        emit.finish(call("openai_chat", body, provider="azure.ai.openai", host=host, answer=answer), "ok")
        emit.flush()
        event = told(pipeline)
    assert (event.get("gen_ai.response.model"), event["genai_meter.cost.status"]) == (model, status)
