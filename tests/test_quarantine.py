"""What cannot be read is kept aside, shown, read again after an upgrade, and thrown away only when told to."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from exporter_kit import NOW, Event, Served, SpanOf, logs, logs_json, traces, traces_json, usage_event
from genai_meter_exporter.attribution_map import AttributionMap
from genai_meter_exporter.cli import main
from genai_meter_exporter.normalise import Batch, Quarantined, normalise
from genai_meter_exporter.normalise.again import printable
from genai_meter_exporter.pipeline import read_quarantined
from genai_meter_exporter.receive import json as otlp_json
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.receive.raw import Raw
from genai_meter_exporter.store.base import Tally
from genai_meter_exporter.store.quarantine import Wanted, open_quarantine
from ledger_kit import ENGINES, Ledger, PostgresLedger, ledger_of_engine

SECRET = "CANARY-7 is a whole sentence that somebody wrote"
STRANGE: dict[str, Any] = {
    "acme.llm.promptTokens": 120,
    "acme.llm.completionTokens": 8,
    "acme.llm.model": "gpt-4o",
    "acme.llm.prompt": SECRET,
    "acme.llm.model_answer": SECRET,
}
CHAT: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
}


class Told(NamedTuple):
    """What a command said."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments: Any) -> Told:
    """`genai-meter quarantine …`."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = main(["quarantine", *map(str, arguments)])
    return Told(code, out.getvalue(), err.getvalue())


def kept_by_an_earlier_version(*numbers: int, attributes: dict[str, Any] = CHAT) -> Batch:
    """Spans that are no mystery any more, as a version that could not read them has kept them."""
    ids = ((b"\x01" * 16, number.to_bytes(8, "big")) for number in numbers)
    raws = [
        Raw("traces", "chat", attributes, {"service.name": "shop"}, "some.agent", *pair, b"", NOW, NOW + 1)
        for pair in ids
    ]
    return Batch(quarantined=[Quarantined("traces", "what is this", "some.agent", printable(raw)) for raw in raws])


@pytest.fixture(params=ENGINES)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Ledger]:
    yield from ledger_of_engine(request, tmp_path)


# --- what is kept -------------------------------------------------------------------------------------
def strange(form: str, kind: str) -> Batch:
    span, event = SpanOf(STRANGE, scope="acme.agent"), Event(STRANGE, name="acme.call", scope="acme.agent")
    if kind == "span":
        if form == "json":
            return normalise(otlp_json.parse("traces", json.dumps(traces_json([span])).encode()))
        return normalise(protobuf.parse("traces", traces([span]).SerializeToString()))
    if form == "json":
        return normalise(otlp_json.parse("logs", json.dumps(logs_json([event])).encode()))
    return normalise(protobuf.parse("logs", logs([event]).SerializeToString()))


@pytest.mark.parametrize("kind", ["span", "event"])
@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_tokens_in_words_that_nobody_knows_are_kept_aside(form: str, kind: str) -> None:
    batch = strange(form, kind)
    assert (batch.records, batch.ignored) == ([], {})
    (kept,) = batch.quarantined
    assert (kept.reason, kept.producer) == ("no flavour reads this producer's acme.llm.promptTokens", "acme.agent")
    assert kept.attributes["attributes"] == {
        "acme.llm.promptTokens": 120,
        "acme.llm.completionTokens": 8,
        "acme.llm.model": "gpt-4o",
    }
    assert "CANARY" not in repr(batch)


@pytest.mark.parametrize(
    "attributes",
    [
        {"http.response.body.size": 12, "auth.token": "abc", "page.tokens": 7},
        {"acme.llm.promptTokens": 0},
        {"acme.llm.promptTokens": "some"},
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.aggregated_usage.input_tokens": 5},
        {"openinference.span.kind": "CHAIN", "llm.token_count.prompt": 5},
        {"ai.operationId": "ai.generateText", "ai.usage.inputTokens": 5},
    ],
)
def test_what_tells_no_tokens_of_a_call_is_ignored(attributes: dict[str, Any]) -> None:
    batch = normalise(protobuf.parse("traces", traces([SpanOf(attributes)]).SerializeToString()))
    assert (batch.records, batch.quarantined, batch.ignored) == ([], [], {"traces": 1})


def test_of_objects_that_are_carried_whole_only_numbers_are_kept() -> None:
    whole = json.dumps({"input": -1, "note": SECRET, "details": {"cached": 3, "why": SECRET}})
    attributes = {"langfuse.observation.type": "generation", "langfuse.observation.usage_details": whole}
    batch = normalise(protobuf.parse("traces", traces([SpanOf(attributes)]).SerializeToString()))
    (kept,) = batch.quarantined
    assert kept.reason == "langfuse.observation.usage_details is negative"
    told = kept.attributes["attributes"]["langfuse.observation.usage_details"]
    assert json.loads(told) == {"input": -1, "details": {"cached": 3}}


# --- what becomes of it -------------------------------------------------------------------------------
def test_read_again_in_one_transaction(ledger: Ledger) -> None:
    broken = Quarantined("traces", "old", "other", {"name": "x", "trace_id": "", "span_id": "", "attributes": CHAT})
    batch = kept_by_an_earlier_version(1, 2)
    batch.quarantined.append(broken)
    assert ledger.put(batch) == [Tally(quarantined=3)]
    location = ledger.url if isinstance(ledger, PostgresLedger) else ledger.path
    assert read_quarantined(ledger.store, AttributionMap()) is None
    with open_quarantine(location) as quarantine:
        assert quarantine.count(Wanted()) == 3
        quarantine.ask(Wanted())
    again = read_quarantined(ledger.store, AttributionMap())
    assert again is not None
    assert ledger.put(again) == [Tally(accepted=2)]
    assert [row["cost"] for row in ledger.rows().values()] == [3_500_000_000] * 2
    assert read_quarantined(ledger.store, AttributionMap()) is None
    with open_quarantine(location) as quarantine:
        (left,) = quarantine.records(Wanted(), 10)
        assert (left.producer, left.reason, quarantine.asked()) == ("other", "the record has no time", 0)
        quarantine.purge(Wanted(left.digest.hex()[:6]))
    with open_quarantine(location) as quarantine:
        assert quarantine.groups(Wanted()) == []
    # The span itself comes once more: it is the same call.
    span = SpanOf(CHAT, trace_id=b"\x01" * 16, span_id=(1).to_bytes(8, "big"), scope="some.agent", end_ns=NOW + 1)
    assert ledger.send(span) == Tally(duplicate=1)
    ledger.check()


def test_what_was_read_but_not_charged_is_read_again(ledger: Ledger) -> None:
    event = usage_event(input_tokens=1000, output_tokens=100, tenant="acme")
    (record,) = normalise(protobuf.parse("logs", logs([event]).SerializeToString())).records
    facts = {
        **record.values,
        "call_id": record.key.hex(),
        "usage": '[{"model":null,"buckets":{"input":1000,"output":100}}]',
    }
    ledger.put(Batch(quarantined=[Quarantined("logs", "pricing failed: ValueError", record.source, facts)]))
    with open_quarantine(ledger.url if isinstance(ledger, PostgresLedger) else ledger.path) as quarantine:
        quarantine.ask(Wanted(reason="pricing failed"))
    again = read_quarantined(ledger.store, AttributionMap())
    assert again is not None
    ledger.put(again)
    (row,) = ledger.rows().values()
    assert (row["cost"], row["tenant"], row["call_id"]) == (3_500_000_000, "acme", event.call_id)
    ledger.check()


def test_the_command_without_an_exporter(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.put(kept_by_an_earlier_version(1, 2), strange("json", "span"))
    ledger.store.close()
    listed = json.loads(command("list", "--format", "json", "--data-dir", tmp_path).stdout)
    assert [(row["producer"], row["reason"], row["records"], row["times"]) for row in listed] == [
        ("acme.agent", "no flavour reads this producer's acme.llm.promptTokens", 1, 1),
        ("some.agent", "what is this", 2, 2),
    ]
    shown = command("show", "--producer", "acme.agent", "--data-dir", tmp_path)
    record = json.loads(shown.stdout)
    assert record["record"]["attributes"]["acme.llm.completionTokens"] == 8
    assert command("show", "zz", "--data-dir", tmp_path).returncode == 2
    with pytest.raises(SystemExit, match="2"):
        command("show", "--limit", "-1", "--data-dir", tmp_path)
    assert "acme.agent" in command("--data-dir", tmp_path).stdout
    narrowed = json.loads(
        command("--data-dir", tmp_path, "--producer", "some.agent", "list", "--format", "json").stdout
    )
    assert [row["producer"] for row in narrowed] == ["some.agent"]
    unpriced = command("retry", "--data-dir", tmp_path, "--overlay", tmp_path / "nothing.json")
    assert unpriced.returncode == 2
    assert unpriced.stderr.startswith("genai-meter quarantine: the price overlay ")
    retried = command("retry", "--data-dir", tmp_path)
    assert (retried.stdout, retried.stderr) == ("3 read again: 2 can be read now, 1 stay\n", "")
    assert retried.returncode == 1
    ledger.open()
    assert [row["cost"] for row in ledger.rows().values()] == [3_500_000_000] * 2
    ledger.check()
    ledger.store.close()
    counted = command("purge", record["id"][:8], "--data-dir", tmp_path)
    assert counted.stdout == "1 records would go; say --yes to throw them away\n"
    assert command("purge", "--yes", "--data-dir", tmp_path).stdout == "1 records are gone\n"
    assert "Nothing is in quarantine." in command("list", "--data-dir", tmp_path).stdout


def test_the_command_beside_a_running_exporter(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "data" / "ledger.db")
    ledger.put(kept_by_an_earlier_version(1))
    ledger.store.close()
    with Served(tmp_path / "data") as served:
        answer = served.post("traces", traces([SpanOf(STRANGE, scope="acme.agent")]).SerializeToString())
        assert answer.status == 200
        retried = command("retry", "--producer", "some.agent", "--data-dir", served.data)
        assert (retried.returncode, retried.stdout) == (0, "1 read again: 1 can be read now, 0 stay\n")
        served.settled("ledger_events_total", 1)
        assert served.value("ingest_events_total", status="quarantined") == 2
        assert served.value("ingest_events_total", status="accepted") == 1
        served.stop()
    again = command("list", "--format", "csv", "--data-dir", served.data).stdout
    assert [line.split(",")[0] for line in again.splitlines()] == ["producer", "acme.agent"]


def test_a_foreign_record_is_not_lost_for_what_it_is_not_billed_by() -> None:
    span = SpanOf({**CHAT, "gen_ai.request.max_tokens": -1, "gen_ai.request.stream": "yes"})
    batch = normalise(protobuf.parse("traces", traces([span]).SerializeToString()))
    (record,) = batch.records
    assert batch.quarantined == []
    assert {"max_tokens", "stream"}.isdisjoint(record.values)
