"""Digests: what they say, to the cent of the ledger, and that each period is sent once, whatever happens between."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from exporter_kit import Event, Served, usage_event
from genai_meter_exporter.anomalies.model import Anomalies
from genai_meter_exporter.anomalies.watch import Watch
from genai_meter_exporter.budgets.engine import Engine, Standing
from genai_meter_exporter.budgets.history import History
from genai_meter_exporter.budgets.model import Budget, Budgets
from genai_meter_exporter.cli import main
from genai_meter_exporter.digest.memory import FileMemory, Memory, PostgresMemory
from genai_meter_exporter.digest.periods import latest
from genai_meter_exporter.digest.sender import Sender
from genai_meter_exporter.digest.settings import Digest, Entry
from genai_meter_exporter.digest.unusual import open_now
from ledger_kit import Ledger, PostgresLedger
from pydantic import ValidationError

from examples.children import wait_for
from examples.inbox import Inbox

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
"""The digests below are about the week before it."""
HOUR, DAY = 3600.0, 86_400.0


def at(day: datetime, hours: float = 0.0) -> float:
    return day.timestamp() + hours * HOUR


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Two weeks: acme doubles, globex ends, initech begins; one model without a price; two outcomes."""
    made = Ledger(tmp_path / "ledger.db")
    made.send(*two_weeks())
    yield made
    made.store.close()


def usd(amount: float, day: datetime, **more: Any) -> Event:
    """A call at noon that cost so much: gpt-4o at 2.50 USD a million input tokens."""
    start = int(at(day, 12) * 1e9)
    return usage_event(start_ns=start, input_tokens=round(amount * 400_000), output_tokens=0, **more)


def two_weeks() -> list[Event]:
    earlier, lately = MONDAY - timedelta(days=10), MONDAY - timedelta(days=3)
    no_price = {"model": "house-1", "request_model": "house-1"}
    return [
        usd(100, earlier, tenant="acme", feature="chat", workflow="triage"),
        usd(50, earlier, tenant="globex", feature="chat"),
        usd(200, lately, tenant="acme", feature="agent", workflow="triage"),
        usd(25.5, lately, tenant="initech", feature="chat"),
        usd(1, lately, **no_price, tenant="initech"),
        usd(1, lately, **no_price, tenant="initech"),
        # Neither in the week nor in the one before.
        usd(7, MONDAY, tenant="acme"),
        usd(9, MONDAY - timedelta(days=15), tenant="acme"),
    ]


def entry(inbox: Inbox, **changes: Any) -> dict[str, Any]:
    return {"name": "weekly", "every": "week", "url": f"{inbox.url}/hook", **changes}


def sender(ledger: Ledger, memory: Memory, *entries: dict[str, Any], **more: Any) -> Sender:
    digest = Digest.model_validate({"entries": list(entries), **more})
    return Sender(digest, memory, ledger.reader, lambda: standings(ledger))


def standings(ledger: Ledger) -> Sequence[Standing]:
    """Of a budget that is over and of one that is not, on the Monday."""
    budgets = [
        Budget.model_validate(
            {"name": "acme-month", "scope": {"tenant": "acme"}, "amount": {"usd": 200}, "owner": "ada@x"}
        ),
        Budget.model_validate({"name": "all-month", "amount": {"usd": 100_000}}),
    ]
    engine = Engine(Budgets(entries=budgets), History(None))
    reader = ledger.reader()
    engine.load(reader, at(MONDAY, 9))
    reader.close()
    return engine.evaluate(at(MONDAY, 9))


def after_the_first(made: Sender) -> Sender:
    """The very first period is left out: that of a week before."""
    made.tick(at(MONDAY, 9) - 7 * DAY)
    return made


# --- what it says -------------------------------------------------------------------------------------------
def test_weekly_review_as_people_read_it(ledger: Ledger, inbox: Inbox, tmp_path: Path) -> None:
    after_the_first(sender(ledger, FileMemory(tmp_path), entry(inbox, top=3))).tick(at(MONDAY, 9))
    (message,) = inbox.at("/hook")
    assert message.headers["idempotency-key"] == "weekly/2026-11-09"
    # November so far of acme: 100 + 200 + 7 + 9, of 200. Of the last seven days 200 / 7 a day, for the 15 hours left of
    # Monday and 14 days to come: 417.86 more.
    assert message.body == {
        "text": """\
*LLM spend of 2026-11-09 to 2026-11-15*
$225.50, +50% against the week before ($150.00); 4 calls
*Dearest tenants*
• acme: $200.00 (+100%)
• initech: $25.50 (new)
*Dearest workflows*
• triage: $200.00 (+100%)
*What moved*
• feature agent: +$200.00, to $200.00
• feature chat: −$124.50, to $25.50
• tenant acme: +$100.00, to $200.00
*Budgets*
• acme-month: over budget, 158% of $200.00 ($316.00, expected $733.86); ada@x
*Without a price, in no sum above*
• openai/house-1: 2 calls"""
    }


def test_names_command_nothing_in_slack(tmp_path: Path, inbox: Inbox) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    lately = MONDAY - timedelta(days=3)
    ledger.send(usd(2, lately, tenant="<!channel> R&D"), usd(1, lately, tenant="two\nlines"), usd(0.001, lately))
    digests = [entry(inbox), entry(inbox, name="all", format="json", url=f"{inbox.url}/json")]
    after_the_first(sender(ledger, FileMemory(tmp_path), *digests)).tick(at(MONDAY, 9))
    ledger.store.close()
    (slack,), (document,) = inbox.at("/hook"), inbox.at("/json")
    assert "• &lt;!channel&gt; R&amp;D: $2.00 (new)\n• two\\nlines: $1.00 (new)\n" in slack.body["text"]
    assert "• <!channel> R&D: $2.00 (new)\n" in document.body["text"]
    assert [tenant["value"] for tenant in document.body["tenants"]] == ["<!channel> R&D", "two\nlines"]


def test_digest_of_a_day_for_one_team_as_json(tmp_path: Path, inbox: Inbox) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    sunday = MONDAY - timedelta(days=1)
    ledger.send(
        usd(3, sunday, team="search", tenant="acme"),
        usd(2, sunday - timedelta(days=7), team="search", tenant="acme"),
        usd(99, sunday, team="ads", tenant="acme"),
        usd(99, sunday - timedelta(days=1), team="search"),
    )
    daily = entry(inbox, name="daily", every="day", format="json", where={"team": "search"})
    made = sender(ledger, FileMemory(tmp_path), daily)
    made.tick(at(MONDAY, 9) - DAY)
    made.tick(at(MONDAY, 9))
    (message,) = inbox.at("/hook")
    moved = {"cost_usd": "3.000000000000", "cost_before_usd": "2.000000000000"}
    assert message.body == {
        "text": "*LLM spend of Sun 2026-11-15, team search*\n"
        "$3.00, +50% against Sun 2026-11-08 ($2.00); 1 call\n"
        "*Dearest tenants*\n• acme: $3.00 (+50%)\n"
        "*What moved*\n"
        "• model gpt-4o-2024-08-06: +$1.00, to $3.00\n"
        "• service shop: +$1.00, to $3.00\n"
        "• tenant acme: +$1.00, to $3.00",
        "digest": "daily",
        "every": "day",
        "first_day": "2026-11-15",
        "last_day": "2026-11-15",
        "compared_with": ["2026-11-08", "2026-11-08"],
        "where": {"team": "search"},
        "cost_usd": "3.000000000000",
        "cost_before_usd": "2.000000000000",
        "calls": 1,
        "calls_before": 1,
        "successes": 0,
        "cost_per_success_usd": None,
        "tenants": [{"dimension": "tenant", "value": "acme", **moved}],
        "workflows": [],
        "movers": [
            {"dimension": "model", "value": "gpt-4o-2024-08-06", **moved},
            {"dimension": "service", "value": "shop", **moved},
            {"dimension": "tenant", "value": "acme", **moved},
        ],
        "budgets": [],
        "unpriced": [],
        "anomalies": [],
    }
    ledger.store.close()


def test_what_is_unusual_is_told_to_those_whom_it_concerns(tmp_path: Path, inbox: Inbox) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    days = [MONDAY - timedelta(days=ago) for ago in range(1, 9)]
    ledger.send(*(usd(10, day, tenant="acme", feature="chat") for day in days))
    ledger.send(usd(90, MONDAY - timedelta(hours=6), tenant="acme", feature="agent"))
    watch = Watch(Anomalies(), None)
    reader = ledger.reader()
    watch.look(reader, at(MONDAY, 9))
    reader.close()
    entries = [
        entry(inbox, url=f"{inbox.url}/all"),
        entry(inbox, name="b", url=f"{inbox.url}/b", where={"tenant": "b"}),
    ]
    made = Sender(
        Digest.model_validate({"entries": entries}),
        FileMemory(tmp_path),
        ledger.reader,
        lambda: (),
        anomalies=lambda told: open_now(watch, told),
    )
    after_the_first(made).tick(at(MONDAY, 9))
    (everything,), (other,) = inbox.at("/all"), inbox.at("/b")
    assert everything.body["text"].splitlines()[-2:] == [
        "*Unusual*",
        "• tenant spend of acme: $100.00 in 24 hours, 10.0 times the median day of $10.00; "
        "feature agent on gpt-4o-2024-08-06: $0.00 → $90.00 a day (new)",
    ]
    assert "Unusual" not in other.body["text"]
    ledger.store.close()


# --- once -----------------------------------------------------------------------------------------------------
def test_each_period_is_sent_once_across_restarts(ledger: Ledger, inbox: Inbox, tmp_path: Path) -> None:
    made = after_the_first(sender(ledger, FileMemory(tmp_path), entry(inbox, at="08:30")))
    assert inbox.messages == []
    made.tick(at(MONDAY, 8.49))
    assert inbox.messages == []
    for hours in (8.5, 8.6, 20):
        made.tick(at(MONDAY, hours))
    sender(ledger, FileMemory(tmp_path), entry(inbox, at="08:30")).tick(at(MONDAY, 30))
    assert [message.headers["idempotency-key"] for message in inbox.messages] == ["weekly/2026-11-09"]


def test_what_was_missed_is_sent_late_and_only_the_last_of_it(ledger: Ledger, inbox: Inbox, tmp_path: Path) -> None:
    after_the_first(sender(ledger, FileMemory(tmp_path), entry(inbox)))
    sender(ledger, FileMemory(tmp_path), entry(inbox)).tick(at(MONDAY, 9) + 17 * DAY)
    assert [message.headers["idempotency-key"] for message in inbox.messages] == ["weekly/2026-11-23"]


def test_a_receiver_that_says_no_is_asked_again_and_the_address_is_told_to_nobody(
    ledger: Ledger, inbox: Inbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "url").write_text(f"{inbox.url}/secret-hook\n", encoding="utf-8")
    digest = Digest.model_validate({"entries": [{"name": "weekly", "every": "week", "url_file": "url"}]})
    made = Sender(digest, FileMemory(tmp_path), ledger.reader, lambda: (), directory=tmp_path)
    after_the_first(made)
    inbox.answers += [503, 500]
    with caplog.at_level(logging.ERROR):
        for seconds in (0, 59, 60, 359, 360, 2000):
            made.tick(at(MONDAY, 9) + seconds)
    assert [message.headers["idempotency-key"] for message in inbox.at("/secret-hook")] == ["weekly/2026-11-09"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "the digest weekly was not sent and is tried again in 60 s: the receiver answered 503",
        "the digest weekly was not sent and is tried again in 300 s: the receiver answered 500",
    ]
    samples = {(s.name, s.labels["digest"]): s.value for metric in made.collect() for s in metric.samples}
    assert samples == {
        ("genai_meter_digest_sent_timestamp_seconds", "weekly"): at(MONDAY, 9) + 360,
        ("genai_meter_digest_failures_total", "weekly"): 2.0,
    }


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("hooks.example.com/secret", "what url holds does not begin with http:// or https://"),
        ("http://127.0.0.1:1/sec ret", "no exchange by HTTP: InvalidURL"),
    ],
)
def test_an_address_that_is_none_is_not_told_either(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture, address: str, complaint: str
) -> None:
    (tmp_path / "url").write_text(address, encoding="utf-8")
    digest = Digest.model_validate({"entries": [{"name": "weekly", "every": "week", "url_file": "url"}]})
    after_the_first(Sender(digest, FileMemory(tmp_path), ledger.reader, lambda: (), directory=tmp_path)).tick(
        at(MONDAY, 9)
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"the digest weekly was not sent and is tried again in 60 s: {complaint}"
    ]


def test_a_redirect_is_no_yes(ledger: Ledger, inbox: Inbox, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = after_the_first(sender(ledger, FileMemory(tmp_path), entry(inbox)))
    inbox.answers.append(302)
    made.tick(at(MONDAY, 9))
    assert "the receiver answered 302" in caplog.text
    made.tick(at(MONDAY, 10))
    assert len(inbox.at("/hook")) == 2


def test_nobody_listens(ledger: Ledger, inbox: Inbox, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    after_the_first(sender(ledger, FileMemory(tmp_path), entry(inbox, url="http://127.0.0.1:9/hook"))).tick(
        at(MONDAY, 9)
    )
    assert [record.getMessage() for record in caplog.records] == [
        "the digest weekly was not sent and is tried again in 60 s: "
        "the receiver cannot be reached: [Errno 111] Connection refused"
    ]


def test_of_several_exporters_on_one_ledger_one_sends(postgres: str, inbox: Inbox) -> None:
    ledger = PostgresLedger.new(postgres)
    ledger.send(*two_weeks())
    made = [sender(ledger, PostgresMemory(ledger.url), entry(inbox)) for _ in range(4)]
    after_the_first(made[0])
    start = threading.Barrier(len(made))

    def look(one: Sender) -> None:
        start.wait(60)
        for seconds in range(3):
            one.tick(at(MONDAY, 9) + seconds)

    threads = [threading.Thread(target=look, args=(one,)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [message.headers["idempotency-key"] for message in inbox.messages] == ["weekly/2026-11-09"]
    # One that fails in the middle of its turn leaves it to the next.
    inbox.answers.append(500)
    made[1].tick(at(MONDAY, 9) + 7 * DAY)
    made[2].tick(at(MONDAY, 9) + 7 * DAY)
    made[1].tick(at(MONDAY, 9) + 8 * DAY)
    assert [message.headers["idempotency-key"] for message in inbox.messages[1:]] == ["weekly/2026-11-16"] * 2
    ledger.store.close()


def test_the_exporter_sends_what_it_owes_and_not_again_after_a_restart(tmp_path: Path, inbox: Inbox) -> None:
    config = {"digest": {"entries": [entry(inbox, name="daily", every="day", at="00:00")]}}
    (tmp_path / "digests.json").write_text('{"daily": 0}', encoding="utf-8")
    with Served(tmp_path, config) as served:
        (message,) = wait_for("the digest of yesterday", lambda: inbox.at("/hook"), 60)
        assert message.body["text"].startswith("*LLM spend of ")
        assert "\n$0.00, unchanged against " in message.body["text"]
        wait_for("it says when", lambda: served.value("digest_sent_timestamp_seconds", digest="daily"), 60)
    with Served(tmp_path, config) as served:
        time.sleep(0.5)
        assert served.value("digest_failures_total", digest="daily") == 0
    assert len(inbox.messages) == 1


# --- when -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia"])
@pytest.mark.parametrize(("every", "days"), [("day", 1), ("week", 7)])
def test_every_day_and_week_comes_once_and_in_order_through_changes_of_the_clock(
    name: str, every: str, days: int
) -> None:
    tz = ZoneInfo(name)
    told = Entry.model_validate({"name": "x", "every": every, "at": "02:30", "url": "http://x"})
    found = [latest(told, tz, now) for now in range(1_772_000_000, 1_772_000_000 + 300 * 86_400, 7200)]
    spans = list(dict.fromkeys(due.span for due in found))
    assert [(b.first - a.first).days for a, b in pairwise(spans)] == [days] * (len(spans) - 1)
    assert all(a.end == b.start for a, b in pairwise(spans))
    for due in found:
        assert (due.span.last - due.span.first).days == days - 1
        assert (due.span.first - due.before.first).days == 7
        assert due.at >= due.span.end


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"entries": [{"name": "a", "every": "day"}]}, "give one of url and url_file"),
        ({"entries": [{"name": "a", "every": "day", "url": "x", "url_file": "y"}]}, "give one of url and url_file"),
        ({"entries": [{"name": "a", "every": "day", "url": "ftp://x"}]}, "url must begin with http"),
        (
            {"entries": [{"name": "a", "every": "day", "url": "http://x", "at": "8"}]},
            'must be a time in quotes, like "08:00"',
        ),
        ({"entries": [{"name": "A", "every": "day", "url": "http://x"}]}, "must be lower case"),
        ({"entries": [{"name": "a", "every": "day", "url": "http://x", "where": {"who": "x"}}]}, "who is no dimension"),
        ({"entries": [{"name": "a", "every": "day", "url": "http://x"}] * 2}, "two digests are called 'a'"),
        ({"timezone": "Mars"}, "'Mars' is no time zone"),
    ],
)
def test_a_mistake_in_the_configuration_is_explained(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint.replace("(", r"\(")):
        Digest.model_validate(given)


# --- the command ------------------------------------------------------------------------------------------------
def test_the_command_shows_what_would_be_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    ledger.send(usd(3, yesterday, tenant="acme"))
    ledger.store.close()
    config = tmp_path / "genai-meter.yaml"
    config.write_text('digest: {entries: [{name: daily, every: day, at: "00:00", url: "http://x"}]}', encoding="utf-8")
    assert main(["digest", "--config", str(config), "--data-dir", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"*LLM spend of {yesterday:%a} {yesterday.date()}*\n$3.00, new ")
    assert main(["digest", "daily", "--format", "json", "--config", str(config), "--data-dir", str(tmp_path)]) == 0
    (numbers,) = json.loads(capsys.readouterr().out)
    assert (numbers["digest"], numbers["cost_usd"], numbers["first_day"]) == (
        "daily",
        "3.000000000000",
        f"{yesterday.date()}",
    )
    assert main(["digest", "other", "--config", str(config), "--data-dir", str(tmp_path)]) == 2
    assert "has no other" in capsys.readouterr().err
