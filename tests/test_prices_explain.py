"""`genai-meter prices explain` of a call in the ledger: the exporter prices it, the command finds and recomputes it."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from exporter_kit import Event, Served, usage_event
from genai_meter.pricing.book import SHIPPED, read_book
from genai_meter_exporter.prices import compiler
from prices_kit import ACME, command, shipped

ENV = {"GENAI_METER_PRICE_BOOK": "", "GENAI_METER_PRICE_OVERLAY": ""}
SOURCE = "genai-prices 0.2.3 (https://developers.openai.com/api/docs/pricing)"
DISCOUNT = "acme-openai-12pct@2026-10-01  <- overlay: MSA-2026-114 sched. B"


def test_a_call_of_the_ledger_priced_with_an_overlay(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(ACME, encoding="utf-8")
    assert command("compile", tmp_path / "acme.yaml", "-o", tmp_path / "acme.json").returncode == 0
    call = usage_event(cache_read=500)
    name = call.attributes["genai_meter.call.id"]
    with Served(tmp_path / "data", {"prices": {"overlay": "../acme.json"}}, ENV) as served:
        served.send(call)
        done = command("explain", name, "--config", served.data / "config.yaml", "--data-dir", served.data, env=ENV)
    overlay_id = json.loads((tmp_path / "acme.json").read_text(encoding="utf-8"))["sha256"][:8]
    assert (done.returncode, done.stderr) == (0, "")
    # 1,000 × 2.50, 100 × 10 and 500 × 1.25 USD a million; 12 % less.
    assert done.stdout == (
        f"call {name.replace('-', '')}  2026-11-22T09:00:00Z\n"
        "  openai  gpt-4o-2024-08-06\n"
        f"  book {shipped().book_id}+ov:{overlay_id}, data of 2026-11-10\n"
        "  gpt-4o-2024-08-06  input: 1000 × $2.5 / 1,000,000 = $0.0025\n"
        "      effective $0.0022\n"
        f"      genai:openai/gpt-4o@input  <- {SOURCE}\n"
        f"      {DISCOUNT}\n"
        "  gpt-4o-2024-08-06  output: 100 × $10 / 1,000,000 = $0.001\n"
        "      effective $0.00088\n"
        f"      genai:openai/gpt-4o@output  <- {SOURCE}\n"
        f"      {DISCOUNT}\n"
        "  gpt-4o-2024-08-06  cache_read: 500 × $1.25 / 1,000,000 = $0.000625\n"
        "      effective $0.00055\n"
        f"      genai:openai/gpt-4o@cache_read  <- {SOURCE}\n"
        f"      {DISCOUNT}\n"
        "  list $0.004125, effective $0.00363, status exact\n"
        "  the event says $0.00363: equal\n"
    )


def test_a_call_priced_by_an_old_book(tmp_path: Path) -> None:
    content = compiler.document(zlib.decompress(SHIPPED.read_bytes(), wbits=31))
    content["rates"] = [dict.fromkeys(table, "1") for table in content["rates"]]
    old = tmp_path / "xdg" / "genai-meter" / "books" / "old.json.gz"
    old.parent.mkdir(parents=True)
    old.write_bytes(compiler.pack(compiler.serialise(content)))
    call = usage_event()
    with Served(tmp_path / "data", env={**ENV, "GENAI_METER_PRICE_BOOK": str(old)}) as served:
        served.send(call)
    arguments = ("explain", call.call_id.hex(), "--data-dir", served.data)
    found = command(*arguments, env={**ENV, "XDG_DATA_HOME": str(tmp_path / "xdg")})
    assert f"  book {read_book(old).book_id}, data of" in found.stdout
    assert "  list $0.0011, effective $0.0011, status exact\n  the event says $0.0011: equal\n" in found.stdout
    lost = command(*arguments, env={**ENV, "XDG_DATA_HOME": str(tmp_path / "none")})
    assert f"priced by {read_book(old).book_id}, which is not here (book or overlay)" in lost.stdout
    assert "effective $0.0035, status exact\n  the event says $0.0011: NOT equal\n" in lost.stdout


def test_a_usage_that_was_estimated(tmp_path: Path) -> None:
    call = usage_event(status="abandoned", usage_source="estimated", cost_reasons='["usage_estimated"]')
    with Served(tmp_path / "data", env=ENV) as served:
        served.send(call)
    done = command("explain", call.call_id.hex(), "--data-dir", served.data, env=ENV)
    # 1,000 × 2.50 and 100 × 10 USD a million.
    assert done.stdout.endswith(
        "  list $0.0035, effective $0.0035, status exact\n"
        "  the event says $0.0035, status estimated (usage_estimated): equal\n"
    )


def test_a_cost_that_is_no_call(tmp_path: Path) -> None:
    told = {
        **usage_event(input_tokens=0, output_tokens=0, usage_source=None).attributes,
        "genai_meter.cost.effective": 5_000_000_000,
    }
    event = Event({**told, "genai_meter.cost.what": "vector_search"}, name="genai_meter.cost")
    with Served(tmp_path / "data", env=ENV) as served:
        served.send(event)
    done = command("explain", event.call_id.hex(), "--data-dir", served.data, env=ENV)
    assert done.stdout.splitlines()[2:] == ["  $0.005 as told by its producer: no price was used"]


def test_seconds_with_a_fraction(tmp_path: Path) -> None:
    call = usage_event(
        model="whisper-1", request_model="whisper-1", input_tokens=0, output_tokens=0, audio_seconds_in=90.5
    )
    with Served(tmp_path / "data", env=ENV) as served:
        served.send(call)
    done = command("explain", call.call_id.hex(), "--data-dir", served.data, env=ENV)
    # 0.006 USD a minute.
    assert "audio_seconds_in: 90.5 × " in done.stdout
    assert "effective $0.00905, status exact\n  the event says $0.00905: equal\n" in done.stdout


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        ('[{"buckets": {"input": "many"}}]', "bucket input: 'many' is no number"),
        ('[{"buckets": {"input": -5}}]', "bucket input: -5 is no quantity"),
        ("[1]", "buckets are a JSON object of numbers"),
    ],
)
def test_an_event_that_is_none(usage: str, message: str) -> None:
    done = command("explain", f'{{"start": 1, "usage": {usage}}}', env=ENV)
    assert (done.returncode, done.stderr) == (2, f"genai-meter prices explain: {message}\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.json", "'nothing.json' is neither a call id nor a file"),
        ("00ff", "the ledger has no call 00ff"),
        ("/etc/passwd", "/etc/passwd is no event in JSON: Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_what_is_not_there(tmp_path: Path, name: str, message: str) -> None:
    with Served(tmp_path / "data", env=ENV) as served:
        served.send(usage_event())
    done = command("explain", name, "--data-dir", served.data, env=ENV)
    assert (done.returncode, done.stderr) == (2, f"genai-meter prices explain: {message}\n")
