"""Anomalies on written histories: what is found, with which words and figures, and what stays silent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import NOW, PRICED, Event, Served, usage_event
from genai_meter_exporter.anomalies.evidence import Finding
from genai_meter_exporter.anomalies.exposition import collect
from genai_meter_exporter.anomalies.model import Anomalies
from genai_meter_exporter.anomalies.watch import FILE, Watch, Watcher
from genai_meter_exporter.config import ConfigError, load
from genai_meter_exporter.store import StoreError
from ledger_kit import Ledger
from pydantic import ValidationError

DAY = 86_400
SUNDAY = NOW // 1_000_000_000
"""2026-11-22T09:00Z: compared are Saturday 09:00 to Sunday 09:00, and the days from the 14th to the 20th."""
FIRST_OF_MONTH = int(datetime(2026, 12, 1, 2, tzinfo=UTC).timestamp())
MILLION = 1_000_000
"""Input tokens for 2.50 USD."""
BASELINE = range(2, 9)
"""Days before the day of the look that are the week."""
SHOP = (("team", "search"), ("environment", "prod"), ("service", "shop"))


def calls(now: int, day: int, count: int, *, hour: int = 12, tokens: int = MILLION, **more: Any) -> Iterator[Event]:
    """So many calls on a day before that of `now`; the team is `search`."""
    start = now // DAY * DAY - day * DAY + hour * 3600
    for number in range(count):
        at = (start + number) * 1_000_000_000
        told: dict[str, Any] = {"team": "search", **more}
        yield usage_event(start_ns=at, input_tokens=tokens, output_tokens=0, **told)


def week(now: int, count: int, days: Iterable[int] = BASELINE, **more: Any) -> Iterator[Event]:
    """The same on every day."""
    for day in days:
        yield from calls(now, day, count, **more)


def look(ledger: Ledger, now: int, **settings: Any) -> list[Finding]:
    """What one look at the ledger finds."""
    reader = ledger.reader()
    try:
        watch = Watch(Anomalies.model_validate({"min_calls": 10, **settings}), None)
        return [anomaly.finding for anomaly in watch.look(reader, now)]
    finally:
        reader.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.db")
    yield made
    made.store.close()


# --- tenants and workflows ------------------------------------------------------------------------------
@pytest.mark.parametrize("now", [SUNDAY, FIRST_OF_MONTH], ids=["in the month", "first of the month"])
def test_a_tenant_above_three_times_its_median_day(ledger: Ledger, now: int) -> None:
    ledger.send(
        # 10 USD a day, then 35: 30 for `answers`, four of its twelve calls sent twice.
        *week(now, 3, tenant="acme", feature="answers"),
        *week(now, 1, tenant="acme", feature="titles"),
        *calls(now, 1, 8, tenant="acme", feature="answers"),
        *calls(now, 1, 4, hour=13, tenant="acme", feature="answers", attempt_count=2),
        *calls(now, 1, 2, hour=14, tenant="acme", feature="titles"),
        now=now * 1_000_000_000,
    )
    assert look(ledger, now, min_calls=100) == [
        Finding(
            "tenant_spend",
            (("tenant", "acme"),),
            3.5,
            "$35.00 in 24 hours, 3.5 times the median day of $10.00",
            f"feature answers on {PRICED}: $7.50 → $30.00 a day (calls 3 → 12 a day, retries 0 % → 33 %)",
        )
    ]


def test_a_workflow_whose_calls_became_longer(ledger: Ledger) -> None:
    ledger.send(
        *week(SUNDAY, 4, workflow="triage", feature="mail"),
        *calls(SUNDAY, 1, 4, tokens=4 * MILLION, workflow="triage", feature="mail"),
        # The other team's workflow of that name costs what it always cost: 40 USD.
        *week(SUNDAY, 16, workflow="triage", team="sales"),
        *calls(SUNDAY, 1, 16, workflow="triage", team="sales"),
    )
    assert look(ledger, SUNDAY) == [
        Finding(
            "workflow_spend",
            (("team", "search"), ("workflow", "triage")),
            4.0,
            "$40.00 in 24 hours, 4.0 times the median day of $10.00",
            f"feature mail on {PRICED}: $10.00 → $40.00 a day (tokens a call 1,000,000 → 4,000,000)",
        )
    ]


def test_tenants_that_are_no_anomaly(ledger: Ledger) -> None:
    growing = [int(8 * MILLION * 1.03 ** ((8 - day) / 7)) for day in range(9)]
    ledger.send(
        # Three days old: no usual day.
        *week(SUNDAY, 2, range(2, 5), tenant="young"),
        *calls(SUNDAY, 1, 40, tenant="young"),
        # First seen today.
        *calls(SUNDAY, 1, 40, tenant="newborn"),
        # Seven times, for 17.50 USD.
        *week(SUNDAY, 1, tenant="small"),
        *calls(SUNDAY, 1, 7, tenant="small"),
        # 2.9 times: 72.50 USD after 25.
        *week(SUNDAY, 10, tenant="busy"),
        *calls(SUNDAY, 1, 29, tenant="busy"),
        # Twenty calls every Saturday, one on other days.
        *calls(SUNDAY, 8, 20, tenant="weekly"),
        *week(SUNDAY, 1, range(2, 8), tenant="weekly"),
        *calls(SUNDAY, 1, 20, tenant="weekly"),
        # All of its 25 USD at night, between three and four.
        *week(SUNDAY, 10, range(1, 9), hour=3, tenant="nightly"),
        *calls(SUNDAY, 0, 10, hour=3, tenant="nightly"),
        # Five days a week; on Saturday and Sunday next to nothing.
        *week(SUNDAY, 12, range(2, 7), tenant="office"),
        *calls(SUNDAY, 7, 1, tenant="office"),
        *calls(SUNDAY, 1, 1, tenant="office"),
        *(event for day in range(1, 9) for event in calls(SUNDAY, day, 1, tokens=growing[day], tenant="growing")),
        # No tenant is no tenant.
        *week(SUNDAY, 1),
        *calls(SUNDAY, 1, 60),
    )
    assert look(ledger, SUNDAY) == []


def test_a_monday_after_the_weekend_is_no_anomaly(ledger: Ledger) -> None:
    monday_night = SUNDAY + DAY + 13 * 3600
    ledger.send(
        *week(monday_night, 12, (7, 6, 5, 4, 3), tenant="office"),
        *calls(monday_night, 0, 12, tenant="office"),
        now=monday_night * 1_000_000_000,
    )
    assert look(ledger, monday_night) == []


# --- services -------------------------------------------------------------------------------------------
def test_a_model_that_the_service_never_used(ledger: Ledger) -> None:
    mini = "gpt-4o-mini-2024-07-18"
    ledger.send(
        *week(SUNDAY, 20),
        # Known from three weeks ago: not new.
        *calls(SUNDAY, 22, 1, model="gpt-4.1-2025-04-14"),
        *calls(SUNDAY, 1, 16),
        *calls(SUNDAY, 1, 2, hour=13, model="gpt-4.1-2025-04-14"),
        # 0.15 USD a million.
        *calls(SUNDAY, 1, 2, hour=14, model=mini, feature="titles"),
    )
    assert look(ledger, SUNDAY) == [
        Finding(
            "new_model",
            (*SHOP, ("model", mini)),
            0.1,
            "2 calls, 10 % of the service's, $0.30; none in the 28 days before",
            f"feature titles on {mini}: 2 calls",
        )
    ]


def test_calls_that_move_to_a_dearer_model(ledger: Ledger) -> None:
    mini = "gpt-4o-mini-2024-07-18"
    ledger.send(
        *week(SUNDAY, 8, model=mini),
        *week(SUNDAY, 2, hour=13),
        *calls(SUNDAY, 1, 4, model=mini),
        *calls(SUNDAY, 1, 6, hour=13),
    )
    # (8 * 0.15 + 2 * 2.50) / 10 = 0.62; (4 * 0.15 + 6 * 2.50) / 10 = 1.56.
    assert look(ledger, SUNDAY) == [
        Finding(
            "model_mix",
            SHOP,
            pytest.approx(0.4),  # type: ignore[arg-type]
            "40 % of the calls go to other models; a call costs $0.62 → $1.56",
            f"{PRICED}: 20 % → 60 % of the calls",
        )
    ]


def test_a_cache_that_no_longer_hits(ledger: Ledger) -> None:
    def cached(hits: int, day: int, feature: str, hour: int = 12) -> Iterator[Event]:
        yield from calls(SUNDAY, day, 10, hour=hour, tokens=1000 - hits, cache_read=hits, feature=feature)

    ledger.send(
        *(event for day in BASELINE for event in cached(800, day, "answers")),
        *(event for day in BASELINE for event in cached(400, day, "titles", 13)),
        *cached(100, 1, "answers"),
        *cached(400, 1, "titles", 13),
    )
    assert look(ledger, SUNDAY) == [
        Finding(
            "cache_drop",
            SHOP,
            250 / 600,
            "60 % → 25 % of the input tokens from prompt caches",
            f"feature answers on {PRICED}, from the cache 80 % → 10 %",
        )
    ]


def test_retries_that_creep_up(ledger: Ledger) -> None:
    ledger.send(
        *week(SUNDAY, 24, feature="answers", tokens=1000),
        *week(SUNDAY, 1, hour=13, feature="answers", tokens=1000, attempt_count=2),
        *week(SUNDAY, 25, hour=14, feature="titles", tokens=1000),
        *calls(SUNDAY, 1, 69, feature="answers", tokens=1000),
        *calls(SUNDAY, 1, 31, hour=13, feature="answers", tokens=1000, attempt_count=2),
        *calls(SUNDAY, 1, 100, hour=14, feature="titles", tokens=1000),
    )
    # One call in fifty, then 31 in 200.
    assert look(ledger, SUNDAY) == [
        Finding(
            "retries_up",
            SHOP,
            pytest.approx(7.75),  # type: ignore[arg-type]
            "retries 2 % → 16 % of the calls",
            f"feature answers on {PRICED}, retries 4 % → 31 %",
        )
    ]


def test_services_that_are_no_anomaly(ledger: Ledger) -> None:
    mini = "gpt-4o-mini-2024-07-18"
    ledger.send(
        # A weekly batch with another model, other retries and no cache: last Saturday, and this one.
        *week(SUNDAY, 20, range(2, 8), tokens=200, cache_read=800),
        *calls(SUNDAY, 8, 20, model=mini, tokens=1000, attempt_count=2),
        *calls(SUNDAY, 1, 20, model=mini, tokens=1000, attempt_count=2),
    )
    assert look(ledger, SUNDAY) == []
    # With half of the calls that it needs, nothing can be said of anything.
    assert look(ledger, SUNDAY, mix_shift=0.01) == []


def test_a_young_service_has_nothing_to_compare_with(ledger: Ledger) -> None:
    ledger.send(*calls(SUNDAY, 1, 100), *calls(SUNDAY, 1, 100, hour=13, model="gpt-4o-mini-2024-07-18"))
    assert look(ledger, SUNDAY) == []


# --- releases -------------------------------------------------------------------------------------------
def test_prompts_that_grew_since_a_release(ledger: Ledger, tmp_path: Path) -> None:
    watch = Watch(Anomalies(min_calls=10), tmp_path)
    reader = ledger.reader()

    def found(now: int) -> list[Finding]:
        return [anomaly.finding for anomaly in watch.look(reader, now)]

    ledger.send(*week(SUNDAY, 20, tokens=1000, feature="answers", release="r1"))
    ledger.send(*calls(SUNDAY, 1, 20, hour=10, tokens=1000, feature="answers", release="r1"))
    saturday = SUNDAY // DAY * DAY - DAY
    assert found(saturday + 10 * 3600 + 600) == []
    # Half an hour later the next one: 1,500 more tokens a call of `answers`, a tenth more of `titles`.
    ledger.send(*week(SUNDAY, 20, hour=11, tokens=1000, feature="titles", release="r1"))
    ledger.send(*calls(SUNDAY, 1, 20, hour=11, tokens=2500, feature="answers", release="r2"))
    assert found(saturday + 11 * 3600 + 600) == []
    ledger.send(*calls(SUNDAY, 1, 20, hour=12, tokens=2500, feature="answers", release="r2"))
    ledger.send(*calls(SUNDAY, 1, 20, hour=13, tokens=1100, feature="titles", release="r2"))
    assert found(saturday + 14 * 3600) == [
        Finding(
            "prompt_growth",
            (*SHOP, ("feature", "answers")),
            2.5,
            "input tokens a call 1,000 → 2,500 since release r2",
            f"feature answers on {PRICED}, release r2",
        )
    ]
    (metric,) = [metric for metric in collect(watch) if metric.name == "genai_meter_release_timestamp_seconds"]
    assert [(sample.labels, sample.value) for sample in metric.samples] == [
        ({**dict(SHOP), "release": "r2"}, saturday + 11 * 3600)
    ]
    # A new start knows the release and the anomaly; r1 coming back is no third release; after a week it is old.
    watch = Watch(Anomalies(min_calls=10), tmp_path)
    ledger.send(*calls(SUNDAY, 1, 1, hour=15, tokens=1000, feature="answers", release="r1"))
    assert [finding.text for finding in found(saturday + 15 * 3600 + 600)] == [
        "input tokens a call 1,000 → 2,500 since release r2"
    ]
    assert found(saturday + 8 * DAY) == []
    told = [json.loads(line) for line in (tmp_path / FILE).read_text(encoding="utf-8").splitlines()]
    assert [(line["kind"], line.get("release") or line.get("event")) for line in told] == [
        ("release", "r1"),
        ("release", "r2"),
        ("prompt_growth", "opened"),
        ("prompt_growth", "closed"),
    ]
    reader.close()


# --- over time ------------------------------------------------------------------------------------------
def test_an_anomaly_opens_once_keeps_its_words_and_ends_late(ledger: Ledger, tmp_path: Path) -> None:
    settings = Anomalies()
    ledger.send(*week(SUNDAY, 4, tenant="acme", feature="answers"))
    ledger.send(*calls(SUNDAY, 1, 12, hour=10, tenant="acme", feature="answers"))
    reader = ledger.reader()
    watch = Watch(settings, tmp_path)
    assert watch.look(reader, SUNDAY) == []
    ledger.send(*calls(SUNDAY, 0, 1, hour=8, tenant="acme", feature="answers"))
    (opened,) = watch.look(reader, SUNDAY)
    assert (opened.finding.ratio, opened.due_to) == (
        3.25,
        f"feature answers on {PRICED}: $10.00 → $32.50 a day (calls 4 → 13 a day)",
    )
    # Another feature takes the lead: the series of the metric stays the one that it was.
    ledger.send(*calls(SUNDAY, 0, 12, hour=7, tenant="acme", feature="titles"))
    watch = Watch(settings, tmp_path)
    (later,) = watch.look(reader, SUNDAY)
    assert (later.opened, later.finding.ratio, later.due_to) == (SUNDAY, 6.25, opened.due_to)
    assert watch.opened() == {"tenant_spend": 1}
    # 09:00 to 09:00 the next day: 13 calls are left of the window's 25, then none.
    assert [anomaly.finding.ratio for anomaly in watch.look(reader, SUNDAY + 3 * 3600)] == [3.25]
    assert watch.look(reader, SUNDAY + DAY) == []
    told = [json.loads(line) for line in (tmp_path / FILE).read_text(encoding="utf-8").splitlines()]
    assert [(line["event"], line["at"], line["labels"]) for line in told if line["kind"] != "release"] == [
        ("opened", SUNDAY, {"tenant": "acme"}),
        ("closed", SUNDAY + DAY, {"tenant": "acme"}),
    ]
    reader.close()


def test_what_tenants_with_a_contract_spend_most_on(ledger: Ledger) -> None:
    ledger.send(
        *calls(SUNDAY, 1, 2, tenant="acme", feature="answers"),
        *calls(SUNDAY, 1, 3, hour=13, tenant="acme", feature="titles"),
        *calls(SUNDAY, 2, 9, tenant="acme", feature="answers"),
        *calls(SUNDAY, 1, 5, hour=14, tenant="none", feature="answers"),
    )
    reader = ledger.reader()
    watch = Watch(Anomalies(), None, ["acme", "idle"])
    watch.look(reader, SUNDAY)
    reader.close()
    assert watch.dearest == {"acme": ("titles", PRICED, 7_500_000_000_000)}
    (metric,) = [metric for metric in collect(watch) if metric.name == "genai_meter_tenant_dearest_usd"]
    assert [(sample.labels, sample.value) for sample in metric.samples] == [
        ({"tenant": "acme", "feature": "titles", "model": PRICED}, 7.5)
    ]


def test_no_more_than_the_limit_are_open(ledger: Ledger) -> None:
    for number in range(5):
        ledger.send(*week(SUNDAY, 2, tenant=f"t{number}"), *calls(SUNDAY, 1, 10 + number, tenant=f"t{number}"))
    found = look(ledger, SUNDAY, limit=2)
    assert [(finding.labels, finding.ratio) for finding in found] == [
        ((("tenant", "t3"),), 6.5),
        ((("tenant", "t4"),), 7.0),
    ]


def test_a_ledger_that_cannot_be_read_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    looks: list[float] = []

    def read() -> Any:
        looks.append(time.monotonic())
        raise StoreError("there is no store")

    watch = Watch(Anomalies(interval_seconds=0.01), tmp_path)
    watcher = Watcher(watch, read)
    watcher.start()
    deadline = time.monotonic() + 60
    while len(looks) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    watcher.stop()
    assert len(looks) >= 3
    assert watch.evaluated is None
    assert [record.message for record in caplog.records] == [
        "the ledger is not searched for anomalies: there is no store"
    ]


# --- served ---------------------------------------------------------------------------------------------
def test_an_exporter_shows_what_it_finds_and_the_command_tells_it(tmp_path: Path) -> None:
    now = int(time.time())
    today = (now - DAY) // DAY * DAY
    history = [
        usage_event(
            start_ns=(today - day * DAY + 43_200) * 10**9, input_tokens=4 * MILLION, output_tokens=0, tenant="acme"
        )
        for day in range(1, 8)
    ]
    spike = usage_event(start_ns=(now - 7200) * 10**9, input_tokens=16 * MILLION, output_tokens=0, tenant="acme")
    with Served(tmp_path, {"anomalies": {"interval_seconds": 0.2}}) as served:
        served.send(*history, spike)
        labels = dict.fromkeys(("team", "environment", "service", "workflow", "feature", "model"), "")
        labels |= {"kind": "tenant_spend", "tenant": "acme"}
        served.settled("anomaly_ratio", 4.0, **labels)
        due_to = f"feature (none) on {PRICED}: $10.00 → $40.00 a day (tokens a call 4,000,000 → 16,000,000)"
        assert served.value("anomaly_info", **labels, due_to=due_to) == 1
        assert served.value("anomalies_active", kind="tenant_spend") == 1
        assert served.value("anomalies_active", kind="new_model") == 0
        assert served.value("anomaly_threshold", threshold="spend_ratio") == 3.0
        assert (
            served.value("release_timestamp_seconds", team="", environment="prod", service="shop", release="7") is None
        )
    (row,) = json.loads(command(tmp_path, "--format", "json").stdout)
    assert (row["kind"], row["who"], row["what"], row["due_to"], row["closed"]) == (
        "tenant_spend",
        {"tenant": "acme"},
        "$40.00 in 24 hours, 4.0 times the median day of $10.00",
        due_to,
        None,
    )
    table = command(tmp_path, "--since", "2d").stdout
    assert "tenant acme" in table
    assert "1 in 2 days, 1 of them open" in table


def command(data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-c", "from genai_meter_exporter.cli import main; raise SystemExit(main())"),
            *("anomalies", "--data-dir", str(data), *options),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_leaves_out_what_ended_before(tmp_path: Path) -> None:
    now = int(time.time())

    def line(at: int, event: str, tenant: str) -> str:
        told = {"text": "words", "due_to": "[/b]"} if event == "opened" else {}
        return json.dumps({"at": at, "kind": "tenant_spend", "event": event, "labels": {"tenant": tenant}, **told})

    lines = [
        line(now - 9 * DAY, "opened", "old"),
        line(now - 9 * DAY, "opened", "long"),
        line(now - 8 * DAY, "closed", "old"),
        line(now - DAY, "closed", "long"),
        line(now - 3600, "opened", "open"),
    ]
    (tmp_path / FILE).write_text("\n".join([*lines, "no JSON", ""]), encoding="utf-8")
    rows = json.loads(command(tmp_path, "--since", "7d", "--format", "json").stdout)
    assert [(row["who"]["tenant"], row["closed"] is None) for row in rows] == [("open", True), ("long", False)]
    assert "[/b]" in command(tmp_path).stdout
    empty = command(tmp_path / "nowhere")
    assert (empty.returncode, empty.stdout) == (0, "0 in 7 days, 0 of them open\n")
    assert "nothing was found so far" in empty.stderr
    assert command(tmp_path, "--since", "yesterday").returncode == 2


@pytest.mark.parametrize(
    "section",
    [{"spend_floor_usd": "ten"}, {"spend_ratio": 0}, {"cache_drop_ratio": 1.5}, {"min_calls": 0}, {"limit": -1}],
    ids=lambda section: next(iter(section)),
)
def test_a_threshold_that_makes_no_sense_is_refused(section: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        Anomalies.model_validate(section)
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"anomalies": section}), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"anomalies.{next(iter(section))}"):
        load(file)
