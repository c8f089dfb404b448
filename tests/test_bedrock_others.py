"""The seam of botocore on its real clients: agents, rerankers, pictures, and what is not metered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bedrock_kit import HAIKU, TURNS, client, metered, only_event
from emission_kit import Telemetry
from genai_meter.clients.botocore import NOT_METERED

from examples.provider import Provider
from tests import aws_kit


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with metered() as kept:
        yield kept


# --- what is no chat
def test_an_agents_models_are_billed_each(telemetry: Telemetry, provider: Provider) -> None:
    made = client(provider, "bedrock-agent-runtime")
    asked = {"sessionId": "s-1", "inputText": "Where to, and when?", "enableTrace": True}
    list(made.invoke_inline_agent(foundationModel=HAIKU, instruction="Be short. " * 5, **asked)["completion"])
    event = only_event(telemetry)
    words = provider.served[0].usage or {}
    assert event["gen_ai.operation.name"] == "invoke_agent"
    assert event["gen_ai.conversation.id"] == "s-1"
    assert (event["gen_ai.usage.input_tokens"], event["gen_ai.usage.output_tokens"]) == (10, words["outputTokens"])
    assert event["genai_meter.cost.effective"] == 10 * 1_100_000 + words["outputTokens"] * 5_500_000


def test_an_agent_that_tells_nothing_has_no_price(telemetry: Telemetry, provider: Provider) -> None:
    made = client(provider, "bedrock-agent-runtime")
    ids = {"agentId": "AGENT00001", "agentAliasId": "ALIAS00001"}
    list(made.invoke_agent(**ids, sessionId="s-1", inputText="Where to?")["completion"])
    event = only_event(telemetry)
    assert (event["genai_meter.usage.source"], event["genai_meter.cost.status"]) == ("unknown", "unpriced")
    assert "genai_meter.cost.effective" not in event


def test_reranking_is_counted_by_the_hundred(telemetry: Telemetry, provider: Provider) -> None:
    made = client(provider, "bedrock-agent-runtime")
    model = "arn:aws:bedrock:us-west-2::foundation-model/cohere.rerank-v3-5:0"
    document = {"type": "INLINE", "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": "North"}}}
    made.rerank(
        queries=[{"type": "TEXT", "textQuery": {"text": "Where?"}}],
        sources=[document] * 101,
        rerankingConfiguration={
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": {"modelConfiguration": {"modelArn": model}},
        },
    )
    event = only_event(telemetry)
    assert (event["gen_ai.operation.name"], event["genai_meter.usage.rerank_search"]) == ("rerank", 2)
    assert (event["gen_ai.response.model"], event["genai_meter.cost.status"]) == ("cohere.rerank-v3-5:0", "unpriced")


@pytest.mark.parametrize("read", [True, False])
def test_pictures_are_counted(telemetry: Telemetry, provider: Provider, read: bool) -> None:
    asked = {
        "taskType": "TEXT_IMAGE",
        "textToImageParams": {"text": "A van"},
        "imageGenerationConfig": {"numberOfImages": 3, "width": 512, "height": 512, "quality": "premium"},
    }
    answer = client(provider).invoke_model(modelId="amazon.nova-canvas-v1:0", body=json.dumps(asked))
    if read:
        answer["body"].read()
    del answer
    event = only_event(telemetry)
    assert (event["gen_ai.operation.name"], event["genai_meter.usage.images"]) == ("image", 3)
    context = json.loads(event["genai_meter.price.context"])
    assert (context["image_size"], context["image_quality"]) == ("512x512", "premium")


def test_what_is_not_metered_is_documented_and_not_metered(telemetry: Telemetry, provider: Provider) -> None:
    page = (Path(__file__).parents[1] / "docs" / "instrumentation.md").read_text()
    for service, operations, reason in NOT_METERED:
        assert f"| `{service}` | {operations} | {reason} |" in page
    with pytest.raises(Exception, match="404"):
        client(provider).count_tokens(modelId=HAIKU, input={"converse": {"messages": TURNS}})
    assert telemetry.events == []


def test_every_metered_operation_exists() -> None:
    from genai_meter.clients.botocore import SERVICES

    for service, operations in SERVICES.items():
        assert operations <= set(aws_kit.session().get_service_model(service).operation_names)


def test_a_program_without_bedrock_loads_nothing_of_the_meter() -> None:
    script = """
import sys
from genai_meter.instrumentor import BotocoreInstrumentor
BotocoreInstrumentor().instrument()
import botocore.session
client = botocore.session.get_session().create_client("sqs", region_name="us-east-1", endpoint_url="http://127.0.0.1:9",
    aws_access_key_id="a", aws_secret_access_key="b")
try: client.list_queues()
except Exception as error: print(type(error).__name__)
print([name for name in sys.modules if re.match("genai_meter.(clients.bot|emit|pricing|dialects)", name)])
"""
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", "import re\n" + script], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["EndpointConnectionError", "['genai_meter.clients.botocore']"], done.stderr
    assert not re.search("genai_meter", done.stderr)
