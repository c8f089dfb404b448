"""Estimates: learned from counted calls, used where no count came, and how far they are off."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from emission_kit import Telemetry, call, minted, telemetry
from genai_meter import emit, estimator, tokenizer
from genai_meter.call import Call, Prepared, Target
from genai_meter.clients import lifecycle
from genai_meter.dialects import by_name, for_path
from genai_meter.settle import settle

from tests.traffic.reading import read_exchange
from tests.traffic.recordings import Exchange, load

ROOT = Path(__file__).resolve().parent.parent


def chat(chars: int, tokens: int | None, *, tools: int = 0, said: int = 80, output: int = 20, **more: Any) -> Call:
    """A chat of `chars` characters whose input the provider counted as `tokens`; None tells nothing."""
    body: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * chars}], **more}
    if tools:
        body["tools"] = [{"type": "function", "function": {"name": "f"}}] * tools
    answer: dict[str, Any] = {
        "id": "chatcmpl-1",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": {"content": "y" * said}, "finish_reason": "stop"}],
    }
    if tokens is not None:
        answer["usage"] = {"prompt_tokens": tokens, "completion_tokens": output}
    return call("openai_chat", body, answer=answer, call_id=minted())


def finished(pipeline: Telemetry, made: Call) -> Mapping[str, Any]:
    """The event of a call that ended well."""
    emit.finish(made, "ok")
    return pipeline.events[-1].attributes


def estimate(event: Mapping[str, Any]) -> tuple[int, int]:
    return event["genai_meter.estimate.input_tokens"], event["genai_meter.estimate.output_tokens"]


def test_the_first_estimate_is_what_is_typical_of_the_tokenizer() -> None:
    with telemetry() as pipeline:
        # 4.2 characters a token in, 4.4 out; 8 tokens around a request, 2 around an answer.
        assert estimate(finished(pipeline, chat(420, None, said=88))) == (108, 22)


def test_a_models_own_characters_per_token_are_learned() -> None:
    with telemetry() as pipeline:
        for _ in range(20):
            for chars in (300, 900, 3000):
                # Two characters a token in and 40 tokens around it; one character a token out.
                finished(pipeline, chat(chars, chars // 2 + 40, said=chars, output=chars))
        given, said = estimate(finished(pipeline, chat(2000, None, said=500)))
    assert given == pytest.approx(1040, rel=0.02)
    assert said == pytest.approx(500, rel=0.02)


def test_the_same_tools_cost_the_same_again() -> None:
    with telemetry() as pipeline:
        for _ in range(10):
            finished(pipeline, chat(400, 1100, tools=5))
            finished(pipeline, chat(400, 108))
        with_tools, _ = estimate(finished(pipeline, chat(400, None, tools=5)))
        without, _ = estimate(finished(pipeline, chat(400, None)))
    assert with_tools == pytest.approx(1100, rel=0.05)
    assert without == pytest.approx(108, rel=0.05)


def test_what_was_not_counted_or_not_sent_teaches_nothing() -> None:
    with telemetry() as pipeline:
        before = estimate(finished(pipeline, chat(420, None, said=88)))
        for _ in range(20):
            finished(pipeline, chat(420, None, said=5))
            emit.finish(call("openai_chat", {"model": "gpt-4o", "messages": []}, call_id=minted()), "error", "Timeout")
            body = {"model": "gpt-4o", "input": "x" * 420, "previous_response_id": "resp_0"}
            answer = {"id": "resp_1", "usage": {"input_tokens": 90_000, "output_tokens": 1}}
            emit.finish(call("openai_responses", body, answer=answer, call_id=minted()), "ok")
        assert estimate(finished(pipeline, chat(420, None, said=88))) == before


def test_a_stream_left_before_its_first_text_has_cost_its_input() -> None:
    head = {"id": "chatcmpl-2", "model": "gpt-4o-2024-08-06", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}
    body = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "x" * 420}]}
    with telemetry() as pipeline:
        emit.finish(call("openai_chat", body, chunks=[head]), "closed_early")
    (event,) = pipeline.events
    told = {
        name: event.attributes.get(f"genai_meter.{name}") for name in ("usage.source", "usage.input", "cost.status")
    }
    assert told == {"usage.source": "estimated", "usage.input": 108, "cost.status": "estimated"}
    assert event.attributes["genai_meter.cost.effective"] == 108 * 2_500_000
    assert "genai_meter.usage.output" not in event.attributes


def test_embeddings_of_a_server_that_counts_nothing() -> None:
    body = {"model": "text-embedding-3-small", "input": ["x" * 420]}
    with telemetry() as pipeline:
        emit.finish(call("openai_embeddings", body, answer={"object": "list", "data": []}), "ok")
    event = pipeline.events[0].attributes
    assert (event["genai_meter.usage.source"], event["genai_meter.usage.input"]) == ("estimated", 100)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"stream": True, "background": True}, "closed_early"),  # goes on without us, and is charged when fetched
        ({"stream": False}, "ok"),  # a raw answer that nobody parsed: its output is not known to be nothing
    ],
)
def test_what_may_yet_be_known_is_not_guessed(body: dict[str, Any], status: Any) -> None:
    with telemetry() as pipeline:
        emit.finish(call("openai_responses", {"model": "gpt-4o", "input": "x" * 420, **body}), status)
    event = pipeline.events[0].attributes
    assert (event["genai_meter.usage.source"], event["genai_meter.cost.status"]) == ("unknown", "unpriced")


def test_drift_is_reported_by_model_and_direction() -> None:
    with telemetry() as pipeline:
        first = estimate(finished(pipeline, chat(420, 54, said=88, output=44)))
        assert first == (108, 22)
        points = pipeline.points()
    base = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    assert {p.attributes["gen_ai.token.type"]: p.value for p in points["genai_meter.estimate.drift"]} == {
        "input": 1.0,
        "output": -0.5,
    }
    assert {p.attributes["gen_ai.token.type"]: p.value for p in points["genai_meter.estimate.error"]} == {
        "input": 1.0,
        "output": 0.5,
    }
    assert all(point.attributes.items() >= base.items() for point in points["genai_meter.estimate.drift"])


def test_what_is_learned_is_bounded_and_follows_a_change() -> None:
    with telemetry():
        for number in range(1200):
            made = chat(400, 100)
            made.prepared.request.model = f"tenant-model-{number}"
            emit.finish(made, "ok")
        assert len(list(estimator.observe())) == 500
        assert len(estimator.drifts()) <= 1024 + 2 * (len(estimator.FAMILIES) + 1)
        estimator.reset()
        for tokens in (100, 130):
            learned = chat(400, tokens)
            outcome = settle(learned)
            for _ in range(6000):
                estimator.learn(learned, outcome)
        assert settle(chat(400, None)).estimated_input == pytest.approx(130, rel=0.05)


def test_threads_may_learn_at_once() -> None:
    made = chat(400, 100)

    def work() -> None:
        for _ in range(500):
            estimator.learn(made, settle(made))

    with telemetry():
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert settle(made).estimated_input == pytest.approx(100, rel=0.02)


# --- tiktoken -----------------------------------------------------------------------------------------
TIKTOKEN = """
import sys, types
model, registry = types.ModuleType("tiktoken.model"), types.ModuleType("tiktoken.registry")
class Encoding:
    def encode_ordinary(self, text):
        return text.split()
def get_encoding(name):
    assert name == "o200k_base"
    return Encoding()
def encoding_name_for_model(name):
    return {"gpt-4o": "o200k_base", "gpt-2": "gpt2"}[name]
model.encoding_name_for_model, registry.get_encoding, registry.ENCODINGS = encoding_name_for_model, get_encoding, {}
sys.modules |= {"tiktoken": types.ModuleType("tiktoken"), "tiktoken.model": model, "tiktoken.registry": registry}
from genai_meter import tokenizer
"""
"""A stand-in for tiktoken, whose encodings no test machine can be expected to have."""

BODY: dict[str, Any] = {
    "instructions": "one two",
    "messages": [
        {"role": "system", "content": "three"},
        {"role": "user", "content": [{"type": "text", "text": "four five"}, {"type": "image_url", "image_url": {}}]},
    ],
}


def test_a_file_that_is_not_the_expected_one_is_not_used(tmp_path: Path) -> None:
    name = hashlib.sha1(b"https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken").hexdigest()
    (tmp_path / name).write_text("something else", encoding="utf-8")
    program = TIKTOKEN + f"tokenizer.load('gpt-4o'); tokenizer.load('gpt-2'); print(tokenizer.count('gpt-4o', {BODY}))"
    assert _run(program, TIKTOKEN_CACHE_DIR=str(tmp_path)) == "None"
    assert _run(program, TIKTOKEN_CACHE_DIR="") == "None"


def test_an_encoding_that_is_there_counts_all_texts() -> None:
    program = TIKTOKEN + (
        f"registry.ENCODINGS['o200k_base'] = Encoding(); tokenizer.load('openai/gpt-4o')\n"
        f"long = {{'prompt': 'x ' * 60_000}}\n"
        f"print(tokenizer.count('openai/gpt-4o', {BODY}), tokenizer.count('openai/gpt-4o', long))"
    )
    assert _run(program) == "5 None"


def test_without_tiktoken_nothing_is_counted() -> None:
    program = "import sys; sys.modules['tiktoken'] = None\nfrom genai_meter import tokenizer\n"
    assert _run(program + f"tokenizer.load('gpt-4o'); print(tokenizer.count('gpt-4o', {BODY}))") == "None"


def test_counted_texts_are_a_measure_of_their_own() -> None:
    with telemetry() as pipeline:
        made = chat(420, None)
        made.prepared.text_tokens = 50
        assert estimate(finished(pipeline, made))[0] == 58


def test_prompts_are_tokenized_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Words:
        def encode_ordinary(self, text: str) -> list[str]:
            return text.split()

    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}
    wire = by_name("openai_chat")
    monkeypatch.setitem(tokenizer._encodings, "gpt-4o", Words())  # pyright: ignore[reportPrivateUsage]
    for setting, expected in (("true", 3), ("false", None)):
        with telemetry(TIKTOKEN=setting):
            made = lifecycle.prepare(Target("openai", "host"), wire, wire.request(body), body)
            assert made.prepared.text_tokens == expected


def test_a_panic_of_the_tokenizer_is_no_panic_of_the_caller() -> None:
    class PanicException(BaseException):
        pass

    class Panics:
        def encode_ordinary(self, text: str) -> list[int]:
            raise PanicException(text)

    try:
        tokenizer._encodings["test-model"] = Panics()  # pyright: ignore[reportPrivateUsage]
        assert tokenizer.count("test-model", BODY) is None
    finally:
        tokenizer._encodings.pop("test-model", None)  # pyright: ignore[reportPrivateUsage]


def _run(program: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- recorded traffic ---------------------------------------------------------------------------------
GENERATES = ("chat", "generate_content", "text_completion")


def known_calls(traffic: Path) -> Iterator[tuple[Exchange, Call]]:
    """Every recorded inference whose usage the provider told, as a call that is ready to be settled."""
    for exchange in load([traffic / "dev.jsonl.gz"]):
        dialect = for_path(exchange.method, exchange.path)
        if dialect is None or dialect.operation not in GENERATES:
            continue
        request, reading, usages = read_exchange(dialect, exchange)
        if not any(usage.input_tokens for usage in usages):
            continue
        if request.model is None:
            request.model = _model_of(exchange)
        prepared = Prepared(Target(exchange.provider, "host"), dialect, request, {}, 0)
        yield exchange, Call(prepared, minted(), reading=reading, status="ok")


def _model_of(exchange: Exchange) -> str | None:
    """Where the path names the model (Bedrock, Gemini), a client knows it from there."""
    for start in ("/model/", "/models/"):
        if start in exchange.bare_path:
            return exchange.bare_path.partition(start)[2].partition("/")[0].partition(":")[0]
    return None


def _errors(calls: list[tuple[Exchange, Call]], direction: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for exchange, made in calls:
        outcome = settle(made)
        told = (outcome.input_tokens, outcome.output_tokens)[direction]
        if told:
            guess = (outcome.estimated_input, outcome.estimated_output)[direction]
            found[exchange.provider].append(abs(guess - told) / told)
    return found


def test_error_on_held_back_calls(traffic: Path, record_property: Callable[[str, object], None]) -> None:
    """Learned on one half of the recordings, judged on the other."""
    halves: tuple[list[tuple[Exchange, Call]], list[tuple[Exchange, Call]]] = ([], [])
    for exchange, made in known_calls(traffic):
        halves[hashlib.sha256(exchange.id.encode()).digest()[0] & 1].append((exchange, made))
    judged, learned = halves
    estimator.reset()
    try:
        untaught = [_errors(judged, direction) for direction in (0, 1)]
        for _, made in learned:
            estimator.learn(made, settle(made))
        taught = [_errors(judged, direction) for direction in (0, 1)]
    finally:
        estimator.reset()
    record_property("table", _table(untaught, taught))
    for direction, most in ((0, 0.25), (1, 0.40)):
        errors = [error for provider in taught[direction].values() for error in provider]
        plain = [error for provider in untaught[direction].values() for error in provider]
        assert len(errors) > 1000
        assert statistics.median(errors) < most
        assert statistics.median(errors) < statistics.median(plain)


def _table(untaught: list[dict[str, list[float]]], taught: list[dict[str, list[float]]]) -> str:
    heading = "absolute percentage error: median and p90, by priors alone → after learning on the other half"
    lines = [heading, f"{'provider':<16} {'calls':>5}   {'input':<32} {'output':<32}"]
    for provider in (*sorted(taught[0]), "all"):
        parts: list[str] = []
        for direction in (0, 1):
            plain, learned = (
                sorted(
                    found[direction].get(provider, [])
                    if provider != "all"
                    else [error for errors in found[direction].values() for error in errors]
                )
                for found in (untaught, taught)
            )
            parts.append(f"{_figures(plain)} → {_figures(learned)}")
        count = len(taught[0].get(provider, [])) or sum(map(len, taught[0].values()))
        lines.append(f"{provider:<16} {count:>5}   {parts[0]:<32} {parts[1]:<32}")
    return "\n".join(lines)


def _figures(errors: list[float]) -> str:
    if not errors:
        return "-"
    return f"{statistics.median(errors):5.0%} {errors[int(len(errors) * 0.9)]:6.0%}"
