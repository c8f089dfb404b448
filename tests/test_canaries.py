"""Content never leaves: canaries planted everywhere are found nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from exporter_kit import Served, fetch

from examples.provider import Provider

ROOT = Path(__file__).resolve().parent.parent

CANARIES = (
    "CANARYSYSTEM",
    "CANARYPROMPT",
    "CANARYTOOL",
    "CANARYARGUMENT",
    "CANARYHEADER",
    "CANARYKEY",
    "CANARYUSER",
    "CANARYERROR",
    "CANARYINPUT",
    "CANARYSTOP",
    "CANARYMETADATA",
    "CANARYQUERY",
    "CANARYEXCEPTION",
)

CHILD = '''
"""Calls with canaries in everything that is content, a secret or a person."""

import asyncio
import contextlib
import logging
import sys
import warnings

logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
logging.getLogger("genai_meter").setLevel(logging.DEBUG)
warnings.simplefilter("ignore")

import anthropic
import openai
from genai_meter import attribute, record_cost, safety

url = sys.argv[1]
headers = {"x-canary": "CANARYHEADER"}
client = openai.OpenAI(
    base_url=url + "/v1", api_key="sk-CANARYKEY", max_retries=1, default_headers=headers
)
claude = anthropic.Anthropic(base_url=url, api_key="sk-CANARYKEY", max_retries=1, default_headers=headers)
tools = [{"type": "function", "function": {"name": "CANARYTOOL", "description": "CANARYTOOL",
          "parameters": {"type": "object", "properties": {"CANARYARGUMENT": {"type": "string"}}}}}]
chat = {
    "model": "gpt-4o",
    "messages": [
        {"role": "system", "content": "CANARYSYSTEM"},
        {"role": "user", "content": "CANARYPROMPT", "name": "CANARYUSER"},
        {"role": "assistant", "tool_calls": [{"id": "CANARYTOOL", "type": "function",
         "function": {"name": "CANARYTOOL", "arguments": '{"x": "CANARYARGUMENT"}'}}]},
        {"role": "tool", "tool_call_id": "CANARYTOOL", "content": "CANARYPROMPT"},
    ],
    "tools": tools,
    "user": "CANARYUSER",
    "metadata": {"k": "CANARYMETADATA"},
    "stop": ["CANARYSTOP"],
    "extra_query": {"q": "CANARYQUERY"},
}
messages = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 50,
    "system": "CANARYSYSTEM",
    "messages": [{"role": "user", "content": "CANARYPROMPT"}],
    "metadata": {"user_id": "CANARYUSER"},
    "stop_sequences": ["CANARYSTOP"],
}


def refused(scenario, make, **body):
    with contextlib.suppress(openai.OpenAIError, anthropic.AnthropicError, Exception):
        made = make(**body, extra_headers={"x-scenario": scenario, "x-echo": "CANARYERROR"})
        for _ in made if body.get("stream") else ():
            pass


class Broken:
    def __getattr__(self, name):
        raise RuntimeError("CANARYEXCEPTION")


with attribute(tenant="acme", user="CANARYUSER"):
    client.chat.completions.create(**chat)
    list(client.chat.completions.create(**chat, stream=True))
    client.chat.completions.with_raw_response.create(**chat).parse()
    client.responses.create(model="gpt-4o", input="CANARYPROMPT", instructions="CANARYSYSTEM", user="CANARYUSER")
    client.embeddings.create(model="text-embedding-3-small", input="CANARYINPUT", user="CANARYUSER")
    client.moderations.create(input="CANARYINPUT")
    claude.messages.create(**messages)
    list(claude.messages.create(**messages, stream=True))
    with claude.messages.stream(**messages) as stream:
        next(iter(stream))
    for scenario in ("400", "429", "500", "die", "error_event"):
        refused(scenario, client.chat.completions.create, **chat)
        refused(scenario, client.chat.completions.create, **chat, stream=True)
        refused(scenario, claude.messages.create, **messages, stream=True)
    with contextlib.suppress(Exception):
        nowhere = openai.OpenAI(base_url="http://127.0.0.1:9/CANARYQUERY", api_key="sk-CANARYKEY", max_retries=0)
        nowhere.chat.completions.create(**chat)
    record_cost("0.01", what="vector_search")

safety.guarded(getattr, Broken(), "x")


async def main():
    gpt = openai.AsyncOpenAI(base_url=url + "/v1", api_key="sk-CANARYKEY")
    await gpt.chat.completions.create(**chat)
    await gpt.close()


asyncio.run(main())
print("done")
'''


@pytest.mark.parametrize("hashed", [True, False])
def test_what_is_content_is_found_nowhere(hashed: bool, provider: Provider, tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(CHILD)
    spans = tmp_path / "console.txt"
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "GENAI_METER_"))},
        "PYTHONPATH": str(ROOT),
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp,console",
        "OTEL_METRICS_EXPORTER": "console",
        "OTEL_LOGS_EXPORTER": "otlp,console",
        "OTEL_SERVICE_NAME": "canaries",
        # The SDK's own tracing is another's; what it tells is not ours to change.
        "ANTHROPIC_OPEN_TELEMETRY": "false",
        "GENAI_METER_BAGGAGE": "tenant,user",
    }
    if hashed:
        environ.update(
            GENAI_METER_HASH_KEY="k1:a-shared-secret-of-length",
            GENAI_METER_HASH_USER="true",
            GENAI_METER_REQUEST_HASH="true",
        )
    with Served(tmp_path / "exporter") as served:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = served.http
        with spans.open("wb") as console:
            done = subprocess.run(
                [Path(sys.executable).parent / "opentelemetry-instrument", sys.executable, child, provider.url],
                env=environ,
                stdout=console,
                stderr=subprocess.PIPE,
                timeout=270,
                check=False,
            )
        assert done.returncode == 0, done.stderr.decode()
        scraped = fetch(served.metrics_url).body
        served.stop()
        told = {
            "spans, metrics and events": spans.read_bytes(),
            "log": done.stderr,
            "scrape": scraped,
            **{path.name: path.read_bytes() for path in (tmp_path / "exporter").iterdir() if path.is_file()},
        }
    assert b"done" in told["spans, metrics and events"]
    assert told["spans, metrics and events"].count(b'"genai_meter.usage"') >= 25
    assert b"canaries" in told["ledger.db"]
    assert b"gen_ai.client.inference.duration" in told["spans, metrics and events"]
    assert (b"genai_meter.request.system_hash" in told["spans, metrics and events"]) is hashed
    # A user id that nobody asked to hash is attribution; everything else is never told.
    allowed: set[str] = set() if hashed else {"CANARYUSER"}
    found = {
        (canary, where)
        for canary in CANARIES
        for where, data in told.items()
        if canary.encode() in data and canary not in allowed
    }
    assert found == set()
    if hashed:
        _keys_are_fingerprints(told["spans, metrics and events"])


def _keys_are_fingerprints(data: bytes) -> None:
    values: set[str] = set()
    for line in data.decode().splitlines():
        name, _, value = line.strip().rstrip(",").partition(": ")
        if name in ('"genai_meter.api_key.fingerprint"', '"user.id"'):
            values.add(json.loads(value))
    assert len(values) == 2
    assert all(value.startswith("k1:") and len(value) == 35 for value in values)
