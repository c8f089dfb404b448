"""Batches: each line of a result file is one call at batch rates, whoever reads it, however, and how often."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from emission_kit import Telemetry, metered
from exporter_kit import Served
from genai_meter import attribute, emit, safety
from genai_meter.clients import batches
from genai_meter.instrumentor import AnthropicInstrumentor, OpenAIInstrumentor
from genai_meter_exporter.cli import main
from genai_meter_exporter.store import Query, open_readonly

from examples.provider import Provider

CHAT = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Where to, and why?"}]}
"""Five tokens in the stand-in's count, which answers with 21 words or fewer."""


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Both libraries metered, into memory; nothing charged before."""
    with metered(OpenAIInstrumentor, AnthropicInstrumentor) as kept:
        forget()
        yield kept


def forget() -> None:
    """As in a process that has read nothing yet."""
    batches.charged.clear()
    batches.created_at.clear()


def ordered(client: openai.OpenAI, *bodies: Mapping[str, Any], endpoint: str = "/v1/chat/completions") -> Any:
    """A batch of these requests, done."""
    lines = [
        {"custom_id": f"secret-{place}", "method": "POST", "url": endpoint, "body": body}
        for place, body in enumerate(bodies)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("input.jsonl", content), purpose="batch")
    window: Any = "24h"
    asked: Any = endpoint
    return client.batches.create(input_file_id=file.id, endpoint=asked, completion_window=window)


def charged(found: list[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Id, served model, input, output, processing, status of the price, cost."""
    names = (
        "genai_meter.call.id",
        "gen_ai.response.model",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "genai_meter.processing",
        "genai_meter.cost.status",
        "genai_meter.cost.effective",
    )
    return [tuple(event.get(name) for name in names) for event in found]


# --- OpenAI -------------------------------------------------------------------------------------------
def by_text(client: openai.OpenAI, file: str) -> bytes:
    return client.files.content(file).text.encode()


def by_bytes(client: openai.OpenAI, file: str) -> bytes:
    return b"".join(client.files.content(file).iter_bytes())


def by_raw(client: openai.OpenAI, file: str) -> bytes:
    return client.files.with_raw_response.content(file).content


def by_streamed_lines(client: openai.OpenAI, file: str) -> bytes:
    with client.files.with_streaming_response.content(file) as response:
        return "".join(f"{line}\n" for line in response.iter_lines()).encode()


def by_streamed_bytes(client: openai.OpenAI, file: str) -> bytes:
    with client.files.with_streaming_response.content(file) as response:
        return b"".join(response.iter_bytes(7))


def by_get(client: openai.OpenAI, file: str) -> bytes:
    return client.get(f"/files/{file}/content", cast_to=httpx2.Response).content


WAYS: tuple[Callable[[openai.OpenAI, str], bytes], ...] = (
    by_text,
    by_bytes,
    by_raw,
    by_streamed_lines,
    by_streamed_bytes,
    by_get,
)


@pytest.mark.parametrize("read", WAYS)
def test_each_line_is_one_call_at_batch_rates(
    telemetry: Telemetry, provider: Provider, read: Callable[[openai.OpenAI, str], bytes]
) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test", organization="org-1") as client:
        batch = ordered(client, CHAT, CHAT, {**CHAT, "model": "gpt-4o-mini", "max_tokens": 3})
        content = provider.memory.files[batch.output_file_id]
        assert telemetry.take(spans=False) == []
        with attribute(tenant="acme"):
            assert read(client, batch.output_file_id) == content
        found = telemetry.take(spans=False)
        results = [json.loads(line) for line in content.splitlines()]
        usages = [result["response"]["body"]["usage"] for result in results]
        # 2 and 8 USD a million tokens, 0.15 and 0.60: half of it in a batch.
        rates = ((1_000_000, 4_000_000), (1_000_000, 4_000_000), (75_000, 300_000))
        assert [event[1:] for event in charged(found)] == [
            (
                result["response"]["body"]["model"],
                usage["prompt_tokens"],
                usage["completion_tokens"],
                "batch",
                "exact",
                usage["prompt_tokens"] * rate[0] + usage["completion_tokens"] * rate[1],
            )
            for result, usage, rate in zip(results, usages, rates, strict=True)
        ]
        assert [event["gen_ai.response.id"] for event in found] == [r["response"]["body"]["id"] for r in results]
        assert [event["genai_meter.request.id"] for event in found] == [r["response"]["request_id"] for r in results]
        assert {event["genai_meter.tenant"] for event in found} == {"acme"}
        assert {event["genai_meter.provider.account"] for event in found} == {"org-1"}
        assert {event["gen_ai.operation.name"] for event in found} == {"chat"}
        created = [result["response"]["body"]["created"] * 10**9 for result in results]
        assert [event["genai_meter.start"] for event in found] == created
        assert "secret" not in repr(found)
        assert telemetry.spans == []
        # Again, in this process: nothing more. In another one: the same calls.
        assert read(client, batch.output_file_id) == content
        assert telemetry.take(spans=False) == []
        forget()
        read(client, batch.output_file_id)
        assert charged(telemetry.take(spans=False)) == charged(found)


async def test_reading_in_a_coroutine(telemetry: Telemetry, provider: Provider) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        batch = ordered(client, CHAT, CHAT)
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        content = await client.files.content(batch.output_file_id)
        assert content.content == provider.memory.files[batch.output_file_id]
        whole = charged(telemetry.take(spans=False))
        assert len(whole) == 2
        forget()
        async with client.files.with_streaming_response.content(batch.output_file_id) as response:
            assert len([line async for line in response.iter_lines()]) == 2
        assert charged(telemetry.take(spans=False)) == whole


def test_ids_are_ordered_by_the_time_of_the_call(telemetry: Telemetry, provider: Provider) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        by_text(client, ordered(client, CHAT).output_file_id)
    (event,) = telemetry.take(spans=False)
    call_id = uuid.UUID(event["genai_meter.call.id"])
    assert (call_id.version, call_id.variant) == (7, uuid.RFC_4122)
    assert call_id.int >> 80 == event["genai_meter.start"] // 10**6


def test_refused_lines_are_errors_without_usage(telemetry: Telemetry, provider: Provider) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        batch = ordered(client, {**CHAT, "model": ""}, CHAT)
        by_text(client, batch.error_file_id)
    (event,) = telemetry.take(spans=False)
    assert (event["genai_meter.status"], event["error.type"]) == ("error", "model_not_found")
    assert event["genai_meter.usage.source"] == "unknown"
    assert "genai_meter.cost.status" not in event


def test_responses_and_embeddings(telemetry: Telemetry, provider: Provider) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        asked = {"model": "gpt-5.2", "input": "Where to?"}
        by_text(client, ordered(client, asked, endpoint="/v1/responses").output_file_id)
        vectors = {"model": "text-embedding-3-small", "input": "Where to?"}
        by_text(client, ordered(client, vectors, endpoint="/v1/embeddings").output_file_id)
    response, embedding = telemetry.take(spans=False)
    assert (response["gen_ai.operation.name"], response["genai_meter.id_family"]) == ("chat", "openai.response")
    assert response["gen_ai.usage.reasoning.output_tokens"] == 64
    assert (embedding["gen_ai.operation.name"], embedding["gen_ai.usage.input_tokens"]) == ("embeddings", 3)
    assert embedding["genai_meter.cost.effective"] == 3 * 10_000


def test_a_reader_that_stops_is_charged_what_it_read(telemetry: Telemetry, provider: Provider) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        batch = ordered(client, *[CHAT] * 400)
        with client.files.with_streaming_response.content(batch.output_file_id) as response:
            next(iter(response.iter_bytes()))
        some = charged(telemetry.take(spans=False))
        assert 0 < len(some) < 400
        by_text(client, batch.output_file_id)
        rest = charged(telemetry.take(spans=False))
    assert len(some) + len(rest) == len({event[0] for event in some + rest}) == 400


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"plain text\nof two lines",
        b'{"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {}}\n',
        b'{"whatever": 1}\n{"custom_id": "a", "response": {"body": {"id": "x", "created": 1}}, "id": "batch_req_1"}\n',
        bytes(range(256)) * 600,
        b'{"custom_id": ' + b" " * 200_000,
    ],
    ids=["empty", "blank", "text", "input of a batch", "results further down", "binary", "cut off"],
)
@pytest.mark.parametrize("read", [by_text, by_streamed_bytes])
def test_other_files_are_no_calls(
    telemetry: Telemetry, provider: Provider, content: bytes, read: Callable[[openai.OpenAI, str], bytes]
) -> None:
    provider.memory.files["file-1"] = content
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        read(client, "file-1")
    assert telemetry.take(spans=False) == []
    safety.internal_errors.pop("take", None)


def test_a_compressed_file(telemetry: Telemetry, provider: Provider) -> None:
    def handle(_: httpx2.Request) -> httpx2.Response:
        headers = {"content-encoding": "gzip", "content-type": "application/octet-stream"}
        return httpx2.Response(200, headers=headers, content=iter([packed[:40], packed[40:]]))

    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        content = provider.memory.files[ordered(client, CHAT, CHAT).output_file_id]
    packed = gzip.compress(content)
    http = httpx2.Client(transport=httpx2.MockTransport(handle))
    with openai.OpenAI(base_url="https://gateway.example/v1", api_key="sk-test", http_client=http) as client:
        assert by_streamed_bytes(client, "file-1") == content
    assert len(telemetry.take(spans=False)) == 2


def test_lines_without_a_time_need_the_batch(telemetry: Telemetry, provider: Provider, caplog: Any) -> None:
    line: dict[str, Any] = {
        "custom_id": "a",
        "response": {"status_code": 200, "body": {"object": "list", "model": "m", "data": []}},
    }
    provider.memory.files["file-1"] = json.dumps(line).encode()
    provider.memory.batches["batch_1"] = {"id": "batch_1", "created_at": 1_795_000_000, "output_file_id": "file-1"}
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        by_text(client, "file-1")
        assert telemetry.take(spans=False) == []
        assert [record.message.partition(":")[0] for record in caplog.records] == ["genai_meter"]
        assert client.batches.with_raw_response.retrieve("batch_1").status_code == 200
        by_text(client, "file-1")
    (event,) = telemetry.take(spans=False)
    assert event["genai_meter.start"] == 1_795_000_000 * 10**9


def test_recorded_results(telemetry: Telemetry, provider: Provider, traffic: Path) -> None:
    """Result files as they were recorded: each line one call, with its usage, at half the price."""
    expected: list[tuple[Any, ...]] = []
    with (
        gzip.open(traffic / "dev.jsonl.gz") as file,
        openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client,
    ):
        for line in file:
            recorded: dict[str, Any] = json.loads(line) if b"custom_id" in line else {}
            if not recorded.get("path", "").endswith("/content"):
                continue
            content = recorded["response_body_text"].encode()
            provider.memory.files[recorded["id"]] = content
            assert by_text(client, recorded["id"]).strip() == content.strip()
            for result in map(json.loads, content.splitlines()):
                body = result["response"]["body"]
                counts = body["usage"]
                expected.append((body["model"], counts["input_tokens"], counts["output_tokens"], "batch"))
    assert expected
    found = telemetry.take(spans=False)
    assert [event[1:5] for event in charged(found)] == expected
    # Of August 2026: the batch rates of the book begin in October.
    assert {event["genai_meter.cost.status"] for event in found} == {"estimated"}
    reasons = {reason for event in found for reason in json.loads(event["genai_meter.cost.reasons"])}
    assert "context_before_first_row:processing=batch" in reasons


@pytest.mark.parametrize("broken", ["Download", "take", "call_of", "Lines", "Tap", "_decoder", "_response_of"])
@pytest.mark.parametrize("read", [by_text, by_streamed_lines, by_streamed_bytes])
def test_what_breaks_in_the_meter_is_no_matter_of_the_reader(
    telemetry: Telemetry,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    read: Callable[[openai.OpenAI, str], bytes],
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError("chaos")

    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        batch = ordered(client, CHAT, CHAT)
        monkeypatch.setattr(batches, broken, fail)
        assert read(client, batch.output_file_id) == provider.memory.files[batch.output_file_id]
        emit.flush()
    safety.internal_errors.clear()


# --- Anthropic ----------------------------------------------------------------------------------------
ASK = {"model": "claude-haiku-4-5", "max_tokens": 7, "messages": [{"role": "user", "content": "Where to?"}]}


def message_batch(client: anthropic.Anthropic, *params: Mapping[str, Any]) -> str:
    requests: Any = [{"custom_id": f"secret-{place}", "params": body} for place, body in enumerate(params)]
    return client.messages.batches.create(requests=requests).id


def test_message_batches(telemetry: Telemetry, provider: Provider) -> None:
    with anthropic.Anthropic(base_url=provider.url, api_key="sk-test") as client:
        batch_id = message_batch(client, ASK, {**ASK, "messages": []})
        made = batches.created_at[batch_id]
        results = client.messages.batches.results(batch_id)
        assert type(results).__name__ == "JSONLDecoder"
        assert telemetry.take(spans=False) == []
        assert [result.result.type for result in results] == ["succeeded", "errored"]
        done, refused = found = telemetry.take(spans=False)
        # Haiku 4.5: 1 and 5 USD a million tokens, half of it in a batch; three tokens in, seven out.
        assert charged([done])[0][1:] == (
            "claude-haiku-4-5-20251001",
            3,
            7,
            "batch",
            "exact",
            3 * 500_000 + 7 * 2_500_000,
        )
        assert (refused["genai_meter.status"], refused["error.type"]) == ("error", "invalid_request_error")
        assert "genai_meter.cost.status" not in refused
        assert {event["genai_meter.start"] for event in found} == {made * 10**9}
        assert "secret" not in repr(found)
        assert list(client.beta.messages.batches.results(batch_id))
        assert telemetry.take(spans=False) == []
        forget()
        assert list(client.beta.messages.batches.results(batch_id))
        assert charged(telemetry.take(spans=False)) == charged(found)
        forget()
        with client.messages.batches.with_streaming_response.results(batch_id) as response:
            assert len(list(response.iter_lines())) == 2
        assert charged(telemetry.take(spans=False)) == charged(found)


async def test_message_batches_in_a_coroutine(telemetry: Telemetry, provider: Provider) -> None:
    async with anthropic.AsyncAnthropic(base_url=provider.url, api_key="sk-test") as client:
        requests: Any = [{"custom_id": "a", "params": ASK}]
        batch = await client.messages.batches.create(requests=requests)
        results = await client.messages.batches.results(batch.id)
        assert [result.custom_id async for result in results] == ["a"]
    (event,) = telemetry.take(spans=False)
    assert event["gen_ai.usage.output_tokens"] == 7


# --- every process, and the exporter ------------------------------------------------------------------
READER = """
import sys
from genai_meter.instrumentor import OpenAIInstrumentor
from opentelemetry import _logs
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
provider = LoggerProvider()
exporter = OTLPLogExporter(endpoint=sys.argv[3] + "/v1/logs")
provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_queue_size=300, max_export_batch_size=300))
_logs.set_logger_provider(provider)
OpenAIInstrumentor().instrument()
import openai
openai.OpenAI(base_url=sys.argv[1], api_key="sk-test").files.content(sys.argv[2]).read()
"""


@pytest.mark.timeout(300)
def test_several_processes_and_the_job_charge_a_batch_once(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """More lines than the SDK's queue holds, read at once and at the end of the process: none is lost."""
    lines = 700
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        batch = ordered(client, *[CHAT] * (lines - 1), {**CHAT, "model": ""})
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with Served(tmp_path) as exporter:
        reader = [sys.executable, "-c", READER, f"{provider.url}/v1", batch.output_file_id, exporter.http]
        with subprocess.Popen(reader) as one, subprocess.Popen(reader) as another:
            assert (one.wait(), another.wait()) == (0, 0)
        job = ["batch", "--provider", "openai", "--id", batch.id, "--base-url", f"{provider.url}/v1"]
        assert main([*job, "--endpoint", exporter.http, "--attribute", "team=search"]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"{batch.id} is completed: {lines} calls sent, 1 of them refused ones, ")
        ledger = open_readonly(exporter.ledger)
        rows = ledger.report(Query(("status", "team", "processing")))
        ledger.close()
    outputs = [json.loads(line) for line in provider.memory.files[batch.output_file_id].splitlines()]
    usages = [output["response"]["body"]["usage"] for output in outputs]
    cost = sum(usage["prompt_tokens"] * 1_000_000 + usage["completion_tokens"] * 4_000_000 for usage in usages)
    told = sum(usage["completion_tokens"] for usage in usages)
    names = ("status", "team", "processing", "calls", "cost", "output_tokens")
    assert sorted(tuple(row[name] or None for name in names) for row in rows) == [
        ("error", "search", "batch", 1, None, None),
        ("ok", None, "batch", lines - 1, cost, told),
    ]


def test_the_job_and_a_reader_give_message_batches_the_same_ids(
    telemetry: Telemetry,
    provider: Provider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with anthropic.Anthropic(base_url=provider.url, api_key="sk-test") as client:
        batch_id = message_batch(client, ASK, {**ASK, "messages": []})
        assert len(list(client.messages.batches.results(batch_id))) == 2
    read = charged(telemetry.take(spans=False))
    forget()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
    with Served(tmp_path) as exporter:
        job = ["batch", "--provider", "anthropic", "--id", batch_id, "--endpoint", exporter.http, "--service", "night"]
        assert main(job) == 0
        forget()
        assert main(job) == 0
        ledger = open_readonly(exporter.ledger)
        rows = [ledger.get(uuid.UUID(call[0]).bytes) for call in read]
        (total,) = ledger.report(Query(("service",)))
        ledger.close()
    cost = 3 * 500_000 + 7 * 2_500_000
    line = f"{batch_id} is ended: 2 calls sent, 1 of them refused ones, {cost / 10**12:.12f} USD"
    assert capsys.readouterr().out.splitlines() == [line, line]
    assert [(row or {}).get("cost") for row in rows] == [cost, None]
    assert (total["service"], total["calls"]) == ("night", 2)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--id", "batch_0"], 1, "answered 404"),
        (["--id", "batch_1"], 1, "batch_1 is in_progress: there are no results yet"),
        (["--id", "batch_1", "--attribute", "colour=red"], 2, "--attribute colour=red"),
        (["--id", "batch_1", "--base-url", "ftp://example.com"], 2, "is no http(s) address"),
    ],
)
def test_what_the_job_cannot_do(
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    provider.memory.batches["batch_1"] = {"id": "batch_1", "status": "in_progress", "output_file_id": None}
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
    assert main(["batch", "--provider", "openai", *arguments]) == 2
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert main(["batch", "--provider", "openai", *arguments]) == code
    printed = capsys.readouterr().err
    assert told in printed
    assert "sk-secret" not in printed
