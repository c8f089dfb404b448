"""Metrics: whole series of each generation, exemplars, bounds, threads, forks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest
from emission_kit import START_NS, Telemetry, call, minted, telemetry
from genai_meter import attribute, emit, metrics
from genai_meter.call import Attempt

DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = tuple(4**power for power in range(14))

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
CHUNK: dict[str, Any] = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 5},
    },
}
BASE = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "server.address": "api.openai.com",
}
UNKNOWN = {"gen_ai.token.modality": "unknown"}
COST = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "genai_meter.tenant": "acme",
    "genai_meter.cost.status": "exact",
    "genai_meter.status": "ok",
    "genai_meter.usage.source": "provider",
}


def _seconds(value: float, **more: Any) -> tuple[Any, ...]:
    return ({**BASE, **more}, value, 1, DURATION)


def _tokens(value: int, **more: Any) -> tuple[Any, ...]:
    return ({**BASE, **more}, value, 1, TOKENS)


def _counter(value: float, attributes: dict[str, Any]) -> tuple[Any, ...]:
    return (attributes, value, None, ())


COMMON = {
    "genai_meter.cost": [_counter(0.0004, COST)],
    "genai_meter.cost.list": [_counter(0.0004, COST)],
}
LATEST = {
    "gen_ai.client.inference.duration": [_seconds(1.5)],
    "gen_ai.client.inference.time_to_first_chunk": [_seconds(0.5)],
    "gen_ai.client.inference.operation.input_tokens": [_tokens(100)],
    "gen_ai.client.inference.operation.output_tokens": [_tokens(20)],
    "gen_ai.client.inference.usage.input_tokens": [_counter(100, BASE | UNKNOWN)],
    "gen_ai.client.inference.usage.output_tokens": [_counter(20, BASE | UNKNOWN)],
    "gen_ai.client.inference.usage.cache_read.input_tokens": [_counter(40, BASE | UNKNOWN)],
    "gen_ai.client.inference.usage.reasoning.output_tokens": [_counter(5, BASE | UNKNOWN)],
}
LEGACY = {
    "gen_ai.client.operation.duration": [_seconds(1.5)],
    "gen_ai.client.operation.time_to_first_chunk": [_seconds(0.5)],
    "gen_ai.client.token.usage": [
        _tokens(100, **{"gen_ai.token.type": "input"}),
        _tokens(20, **{"gen_ai.token.type": "output"}),
    ],
}


def _series(pipeline: Telemetry) -> dict[str, list[tuple[Any, ...]]]:
    return {
        name: [(point.attributes, point.value, point.count, point.bounds) for point in points]
        for name, points in pipeline.points().items()
        if name != "genai_meter.internal.errors" and not name.startswith("genai_meter.estimate.")
    }


@pytest.mark.parametrize(
    ("generation", "expected"), [("latest", LATEST), ("legacy", LEGACY), ("both", {**LATEST, **LEGACY})]
)
def test_every_series_of_each_generation(generation: str, expected: dict[str, Any]) -> None:
    with telemetry(SEMCONV=generation) as pipeline, attribute(tenant="acme", user="never-a-label"):
        emit.finish(call("openai_chat", CHAT, chunks=[CHUNK]), "ok")
        assert _series(pipeline) == {**expected, **COMMON}


def test_each_histogram_has_an_exemplar_of_the_calls_span() -> None:
    with telemetry() as pipeline:
        emit.finish(call("openai_chat", CHAT, chunks=[CHUNK]), "ok")
        (span,) = pipeline.spans
        assert span.context is not None
        expected = ((span.context.trace_id, span.context.span_id),)
        histograms = [point for points in pipeline.points().values() for point in points if point.count is not None]
    assert len(histograms) == 8
    assert [point.exemplars for point in histograms] == [expected] * 8


def test_a_failed_call_counts_zero_tokens_and_its_error() -> None:
    with telemetry(SEMCONV="latest") as pipeline:
        refused = Attempt(START_NS, START_NS + 1_500_000_000, 429, "req-1", "RateLimitError")
        emit.finish(call("openai_chat", CHAT, attempts=(refused,)), "error", "RateLimitError")
        found = _series(pipeline)
    base = {name: value for name, value in BASE.items() if name != "gen_ai.response.model"}
    assert found == {
        "gen_ai.client.inference.duration": [({**base, "error.type": "RateLimitError"}, 1.5, 1, DURATION)],
        "gen_ai.client.inference.usage.input_tokens": [_counter(0, base | UNKNOWN)],
        "gen_ai.client.inference.usage.output_tokens": [_counter(0, base | UNKNOWN)],
    }


def test_modalities_and_cache_writes_have_their_own_series() -> None:
    body: dict[str, Any] = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": []}
    usage = {
        "input_tokens": 10,
        "output_tokens": 4,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
    }
    audio = {**CHUNK["usage"], "prompt_tokens_details": {"audio_tokens": 70, "cached_tokens": 0}}
    with telemetry(SEMCONV="latest") as pipeline:
        answer: dict[str, Any] = {
            "id": "m",
            "model": "claude-sonnet-4-5",
            "content": [],
            "stop_reason": "end_turn",
            "usage": usage,
        }
        emit.finish(call("anthropic_messages", body, provider="anthropic", answer=answer), "ok")
        emit.finish(call("openai_chat", CHAT, chunks=[{**CHUNK, "usage": audio}]), "ok")
        points = pipeline.points()

    def totals(metric: str) -> dict[tuple[str, str], float]:
        return {
            (point.attributes["gen_ai.provider.name"], point.attributes["gen_ai.token.modality"]): point.value
            for point in points[metric]
        }

    found = totals("gen_ai.client.inference.usage.input_tokens")
    assert found[("anthropic", "unknown")] == 40
    assert found[("openai", "audio")] == 70
    assert sum(value for (provider, _), value in found.items() if provider == "openai") == 100
    assert totals("gen_ai.client.inference.usage.cache_write.input_tokens") == {("anthropic", "unknown"): 30}


def test_embeddings_and_other_operations_have_their_own_metrics() -> None:
    answer: dict[str, Any] = {
        "model": "text-embedding-3-small",
        "data": [],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    moderation: dict[str, Any] = {"id": "modr-1", "model": "omni-moderation-latest", "results": []}
    with telemetry(SEMCONV="latest") as pipeline:
        emit.finish(call("openai_embeddings", {"model": "text-embedding-3-small", "input": "x"}, answer=answer), "ok")
        emit.finish(
            call("openai_moderations", {"model": "omni-moderation-latest", "input": "x"}, answer=moderation), "ok"
        )
        points = pipeline.points()
    names = {name for name in points if name.startswith("gen_ai.")}
    assert names == {
        "gen_ai.client.embeddings.duration",
        "gen_ai.client.embeddings.operation.input_tokens",
        "gen_ai.client.operation.duration",
    }
    assert points["gen_ai.client.embeddings.operation.input_tokens"][0].value == 8
    (other,) = points["gen_ai.client.operation.duration"]
    assert other.attributes["gen_ai.request.model"] == "omni-moderation-latest"


def test_an_operation_of_neither_kind_is_measured_once_in_both_generations() -> None:
    moderation: dict[str, Any] = {"id": "modr-1", "model": "omni-moderation-latest", "results": []}
    with telemetry(SEMCONV="both") as pipeline:
        emit.finish(
            call("openai_moderations", {"model": "omni-moderation-latest", "input": "x"}, answer=moderation), "ok"
        )
        (point,) = pipeline.points()["gen_ai.client.operation.duration"]
    assert point.count == 1


def test_attribute_sets_are_bounded_and_the_total_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_SERIES", 5)
    with telemetry(SEMCONV="latest") as pipeline:
        for number in range(20):
            with attribute(tenant=f"t{number}"):
                body: dict[str, Any] = {**CHAT, "model": f"gpt-4o-{number}" if number else "gpt-4o"}
                emit.finish(call("openai_chat", body, chunks=[CHUNK], call_id=minted()), "ok")
        points = pipeline.points()
    for name, total in (("genai_meter.cost", 0.008), ("gen_ai.client.inference.usage.input_tokens", 2000)):
        series = points[name]
        assert sum(point.value for point in series) == pytest.approx(total, rel=1e-12)
        assert len(series) == 6
        assert [point.attributes for point in series if "otel.metric.overflow" in point.attributes] == [
            {"otel.metric.overflow": True}
        ]
    assert len(points["gen_ai.client.inference.duration"]) == 6


def test_error_types_of_a_series_are_bounded() -> None:
    with telemetry(SEMCONV="legacy") as pipeline:
        for number in range(50):
            emit.finish(call("openai_chat", CHAT, call_id=minted()), "error", f"E{number}")
        points = pipeline.points()["gen_ai.client.operation.duration"]
    told: dict[str, int | None] = {point.attributes["error.type"]: point.count for point in points}
    assert len(told) == 33
    assert told["_OTHER"] == 18


def test_threads_lose_no_update() -> None:
    def work() -> None:
        for _ in range(250):
            emit.finish(call("openai_chat", CHAT, chunks=[CHUNK], call_id=minted()), "ok")

    with telemetry(SEMCONV="latest") as pipeline:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        points = pipeline.points()
    assert [point.value for point in points["gen_ai.client.inference.usage.input_tokens"]] == [200_000]
    assert [point.value for point in points["genai_meter.cost"]] == [pytest.approx(0.8, rel=1e-12)]


def test_an_error_of_ours_is_a_metric() -> None:
    code = """
        import json, sys
        sys.path[:0] = ["tests"]
        from emission_kit import call, telemetry
        from genai_meter import emit, safety

        def broken():
            raise ValueError("x")

        with telemetry() as pipeline:
            safety.guarded(broken)
            safety.guarded(broken)
            emit.finish(call("openai_chat", {"model": "gpt-4o"}), "ok")
            print(json.dumps([(p.value, p.attributes) for p in pipeline.points()["genai_meter.internal.errors"]]))
    """
    assert json.loads(_python(code)) == [[2, {"code.function.name": "broken"}]]


FORK = """
    import json, os, sys
    sys.path[:0] = ["tests"]
    from emission_kit import AggregationTemporality, call, minted, telemetry
    from genai_meter import emit
    from test_emit_metrics import CHAT, CHUNK

    def spend(times):
        for _ in range(times):
            emit.finish(call("openai_chat", CHAT, chunks=[CHUNK], call_id=minted()), "ok")

    def totals(pipeline):
        points = pipeline.points()
        return [[p.value for p in points.get(name, [])]
                for name in ("gen_ai.client.inference.usage.input_tokens", "genai_meter.cost")]

    temporality = AggregationTemporality[sys.argv[1]]
    with telemetry(temporality) as pipeline:
        spend(5)
        seen = [totals(pipeline)]
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            spend(2)
            mine = [totals(pipeline)]
            spend(1)
            mine.append(totals(pipeline))
            mine.append(pipeline.scopes()[-1])
            os.write(write_end, json.dumps([os.getpid(), *mine]).encode())
            os._exit(0)
        os.close(write_end)
        theirs = json.loads(os.fdopen(read_end).read())
        os.waitpid(child, 0)
        spend(1)
        seen.append(totals(pipeline))
        print(json.dumps([seen, theirs]))
"""


def _usd(calls: int) -> Any:
    return pytest.approx([calls * 0.0004], rel=1e-9)


@pytest.mark.parametrize(
    ("temporality", "parent", "child"), [("CUMULATIVE", (5, 6), (2, 3)), ("DELTA", (5, 1), (2, 1))]
)
def test_a_forked_child_counts_from_zero_and_its_parent_goes_on(
    temporality: str, parent: tuple[int, int], child: tuple[int, int]
) -> None:
    seen, (pid, first, second, scope) = json.loads(_python(FORK, temporality))
    assert seen == [[[calls * 100], _usd(calls)] for calls in parent]
    assert [first, second] == [[[calls * 100], _usd(calls)] for calls in child]
    assert scope == ["genai_meter", {"process.pid": pid}]


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True).stdout
