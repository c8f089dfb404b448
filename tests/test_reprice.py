"""Another price for calls of the past: a revision each; sums and counters follow; the old price can be explained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from exporter_kit import Event, Served, usage_event
from genai_meter_exporter import series
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cli import main
from genai_meter_exporter.config import Config
from genai_meter_exporter.store import Query, Revision, open_readonly, open_store
from genai_meter_exporter.store.base import Price
from ledger_kit import ENGINES, Ledger, PostgresLedger, ledger_of_engine
from prices_kit import ACME, command

NO_PRICES = {"GENAI_METER_PRICE_BOOK": "", "GENAI_METER_PRICE_OVERLAY": ""}
EACH = 3_500_000_000
REDUCED = EACH * 88 // 100

ledger = pytest.fixture(params=ENGINES)(ledger_of_engine)


def ask(ledger: Ledger, *revisions: Revision) -> None:
    """As `genai-meter reprice` does it, from its own process."""
    from genai_meter_exporter.store import ask_for_revisions

    ask_for_revisions(ledger.url if isinstance(ledger, PostgresLedger) else ledger.path, revisions)


def test_the_writer_carries_out_what_was_asked_for(ledger: Ledger) -> None:
    dearer, cheaper, priced = usage_event(tenant="a"), usage_event(tenant="b"), usage_event(model="no-such-model")
    priced.attributes["gen_ai.request.model"] = "no-such-model"
    ledger.send(dearer, cheaper, priced)
    asked = {dearer.call_id: EACH + 7, cheaper.call_id: EACH - 5, priced.call_id: 11}
    ask(
        ledger,
        *(Revision(key, Price("exact", cost, cost, "[]", None, "pb1:new"), "why") for key, cost in asked.items()),
        Revision(b"\x01" * 16, Price("exact", 1, 1, "[]", None, "pb1:new"), "a call that has gone"),
    )
    reader = ledger.reader()
    assert reader.pending() == 4
    assert ledger.revise_pending(3) is True
    assert ledger.revise_pending(3) is True
    assert ledger.revise_pending(3) is False
    assert reader.pending() == 0
    reader.close()
    assert {key: row["cost"] for key, row in ledger.rows().items()} == asked
    assert ledger.total(series.LEDGER_COST) == 2 * EACH + 7 + 11
    assert ledger.total(series.LEDGER_CREDIT) == 5
    ledger.check()
    ledger.reopen()


def reprice(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`genai-meter reprice --since all`."""
    program = "from genai_meter_exporter.cli import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, "reprice", "--since", "all", "--data-dir", str(data), *arguments],
        env={**os.environ, **NO_PRICES},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("served", [True, False])
def test_another_book_and_back(tmp_path: Path, served: bool) -> None:
    (tmp_path / "acme.yaml").write_text(ACME, encoding="utf-8")
    overlay = str(tmp_path / "acme.json")
    assert command("compile", tmp_path / "acme.yaml", "-o", overlay).returncode == 0
    calls = [usage_event(tenant="acme"), usage_event(tenant="zeta")]
    given = Event(
        {
            **usage_event(input_tokens=0, output_tokens=0, usage_source=None).attributes,
            "genai_meter.cost.effective": 77,
            "genai_meter.cost.what": "vector_search",
        },
        name="genai_meter.cost",
    )
    exporter = Served(tmp_path / "data", env=NO_PRICES)
    with exporter:
        exporter.send(*calls, given)
        if served:
            _there_and_back(exporter.data, overlay)
            exporter.settled("ledger_cost_usd_total", (2 * EACH + 77 + 2 * (EACH - REDUCED)) / 10**12)
            exporter.settled("ledger_credit_usd_total", 2 * (EACH - REDUCED) / 10**12)
    if not served:
        _there_and_back(exporter.data, overlay)
    store = open_store(exporter.ledger, Bounds({}, 10, 10), Config())
    restored = store.open().values
    store.close()
    assert restored[series.LEDGER_COST.name, ()] == 2 * EACH + 77 + 2 * (EACH - REDUCED)
    assert restored[series.LEDGER_CREDIT.name, ()] == 2 * (EACH - REDUCED)
    # What each price was can still be explained.
    name = calls[0].call_id.hex()
    for revision, cost in (("0", "0.0035"), ("1", "0.00308"), ("2", "0.0035")):
        told = command("explain", name, "--revision", revision, "--overlay", overlay, "--data-dir", exporter.data)
        assert f"  the event says ${cost}: equal\n" in told.stdout
    missing = command("explain", name, "--revision", "9", "--data-dir", exporter.data)
    assert f"call {name} has no revision 9, only [0, 1, 2]" in missing.stderr + missing.stdout


def _there_and_back(data: Path, overlay: str) -> None:
    looked = reprice(data, "--overlay", overlay)
    assert (looked.returncode, "nothing written" in looked.stdout) == (1, True), looked
    assert " Calls with another price: 2; 0 USD more, 0.00084 USD less. priced by pb1:" in looked.stdout
    assert _cost(data) == 2 * EACH + 77
    done = reprice(data, "--overlay", overlay, "--reason", "the contract of 2026", "--yes")
    assert done.returncode == 0, done
    assert _cost(data) == 2 * REDUCED + 77
    assert reprice(data, "--overlay", overlay, "--yes").stdout.endswith(".\n")
    back = reprice(data, "--yes", "--where", "tenant=acme")
    assert " Calls with another price: 1; 0.00042 USD more, 0 USD less." in back.stdout
    assert _cost(data) == EACH + REDUCED + 77
    reprice(data, "--yes")
    assert _cost(data) == 2 * EACH + 77


def _cost(data: Path) -> int:
    reader = open_readonly(data / "ledger.db")
    (row,) = reader.report(Query(("environment",)))
    reader.close()
    return row["cost"]


def test_there_is_nothing_to_price(tmp_path: Path) -> None:
    done = reprice(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no store at" in done.stderr


def test_an_exporter_that_does_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "acme.yaml").write_text(ACME, encoding="utf-8")
    overlay = str(tmp_path / "acme.json")
    assert command("compile", tmp_path / "acme.yaml", "-o", overlay).returncode == 0
    for name, value in NO_PRICES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("genai_meter_exporter.commands.reprice._PATIENCE_SECONDS", 0.5)
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.send(usage_event(tenant="acme"))
    arguments = ["reprice", "--since", "all", "--data-dir", str(tmp_path), "--overlay", overlay, "--yes"]
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert told.out.endswith("\n1 revisions are left to the exporter that writes this ledger ...\n")
    assert told.err == "an exporter carries them out when it writes this ledger again\n"
    assert ledger.revise_pending(3) is True
    assert [row["cost"] for row in ledger.rows().values()] == [REDUCED]
    ledger.store.close()
