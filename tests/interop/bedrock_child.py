"""An application under `opentelemetry-instrument` that calls Bedrock; tells what spans and events each call left.

opentelemetry-instrument python bedrock_child.py URL OUTPUT
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from tests.interop.recorder import record

URL, OUTPUT = sys.argv[1], Path(sys.argv[2])
MODEL = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
ASK: Any = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": "Where to?"}]}]}
CLAUDE = json.dumps(
    {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "Where to?"}],
    }
)

client: Any = importlib.import_module("boto3").client(
    service_name="bedrock-runtime",
    endpoint_url=URL,
    region_name="us-east-1",
    aws_access_key_id="AKIANONE",
    aws_secret_access_key="none",
)


def converse() -> None:
    client.converse(**ASK)


def converse_stream() -> None:
    list(client.converse_stream(**ASK)["stream"])


def invoke() -> None:
    assert json.loads(client.invoke_model(modelId=MODEL, body=CLAUDE)["body"].read())["role"] == "assistant"


def invoke_stream() -> None:
    list(client.invoke_model_with_response_stream(modelId=MODEL, body=CLAUDE)["body"])


def titan() -> None:
    body = json.dumps({"inputText": "Where to?"})
    client.invoke_model(modelId="amazon.titan-text-lite-v1", body=body)["body"].read()


def embeddings() -> None:
    body = json.dumps({"inputText": "Where to?"})
    client.invoke_model(modelId="amazon.titan-embed-text-v2:0", body=body)["body"].read()


SCENARIOS = (converse, converse_stream, invoke, invoke_stream, titan, embeddings)


if __name__ == "__main__":
    record(SCENARIOS, OUTPUT)
