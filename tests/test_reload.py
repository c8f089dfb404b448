"""SIGHUP: another configuration is taken while the exporter runs, whole or not at all."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from access_kit import bearer, get, make_token
from exporter_kit import NOW, Served, fetch, logs, usage_event
from genai_meter_exporter.access import tokens
from genai_meter_exporter.prices.overlay_yaml import compile_texts, to_json
from load_kit import PICO, ledger, near, scraped, stored, under_load
from prices_kit import ACME, shipped

LABELS = {"owner": "", "window": "rolling"}
SUCCESSFUL, SUCCEEDED = "config_last_reload_successful", "config_last_reload_success_timestamp_seconds"


def budget(name: str, usd: Any, *teams: str) -> dict[str, Any]:
    return {"name": name, "scope": {"team": list(teams)}, "amount": {"usd": usd}, "period": "rolling 24h"}


def budgets(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"budgets": {"entries": list(entries), **more}}


def told(served: Served, name: str) -> dict[str, Any]:
    """What `/metrics` says of a budget; amounts in millionths of USD."""
    found = served.scrape()
    told: dict[str, Any] = {}
    for (metric, labels), value in found.items():
        said = dict(labels)
        if said.get("budget") != name:
            continue
        if metric == "genai_meter_budget_state" and value == 1:
            told["state"] = said["state"]
        for short in ("limit_usd", "spent_usd", "spend_usd_total"):
            if metric == f"genai_meter_budget_{short}":
                told[short] = round(value * 1_000_000)
    return told


def spend(served: Served) -> dict[str, tuple[int, ...]]:
    """Budget → spent in its period, and ever charged to it; in pico-USD to the nano-USD."""
    found: dict[str, dict[str, int]] = {}
    for (metric, labels), value in served.scrape().items():
        if metric in ("genai_meter_budget_spent_usd", "genai_meter_budget_spend_usd_total"):
            found.setdefault(dict(labels)["budget"], {})[metric] = near(round(value * PICO))
    return {name: tuple(amounts.values()) for name, amounts in found.items()}


def amounts(limit: int, spent: int, spend: int, state: str) -> dict[str, Any]:
    return {"limit_usd": limit, "spent_usd": spent, "spend_usd_total": spend, "state": state}


def send(served: Served, *teams: str) -> None:
    """A call of 0.0035 USD, now, for each of these teams."""
    served.send(*(usage_event(start_ns=time.time_ns(), team=team) for team in teams))


# --- budgets ----------------------------------------------------------------------------------------------
def test_budgets_change_without_a_restart(tmp_path: Path) -> None:
    with Served(tmp_path / "data", budgets(budget("search", 1, "search"))) as served:
        send(served, "search", "search", "ads")
        assert told(served, "search") == amounts(1_000_000, 7_000, 7_000, "within_budget")
        first, started = served.process.pid, served.value(SUCCEEDED)
        assert (served.value(SUCCESSFUL), started) == (1, pytest.approx(time.time(), abs=60))

        # Another amount: the state is another at once, what is spent stays. (A reload looks at all states.)
        said = served.reload(budgets(budget("search", "0.005", "search"), budget("ads", 1, "ads")))
        assert "changed: budgets;" in said
        assert told(served, "search") == amounts(5_000, 7_000, 7_000, "over_budget")
        # A new budget knows what the ledger has.
        assert told(served, "ads") == amounts(1_000_000, 3_500, 3_500, "within_budget")

        # Something else is counted: the state is of that, and the counter neither falls nor jumps.
        served.reload(budgets(budget("search", "0.012", "search", "ads")))
        assert told(served, "search") == amounts(12_000, 10_500, 7_000, "at_risk")
        assert told(served, "ads") == {}
        send(served, "ads", "other")
        served.reload()
        assert told(served, "search") == amounts(12_000, 14_000, 10_500, "over_budget")

        # Over what it never was, with the same amount: no overrun of another scope is held on to.
        served.reload(budgets(budget("search", "0.012", "other"), budget("ads", 1, "ads")))
        assert told(served, "search") == amounts(12_000, 3_500, 10_500, "within_budget")
        # One that comes back goes on where its counter was, at least.
        assert told(served, "ads") == amounts(1_000_000, 7_000, 7_000, "within_budget")
        assert served.process.pid == first

        # A restart knows it too, and whether something else was counted before it.
        served.stop()
        served.start()
        assert told(served, "search") == amounts(12_000, 3_500, 10_500, "within_budget")
        served.stop()
        served.configure(budgets(budget("search", "0.012", "search", "other")))
        served.start()
        assert told(served, "search") == amounts(12_000, 10_500, 10_500, "at_risk")
        send(served, "search")
        served.reload()
        assert told(served, "search") == amounts(12_000, 14_000, 14_000, "over_budget")


def test_what_is_wrong_changes_nothing_and_says_where(tmp_path: Path) -> None:
    right = {
        **budgets(budget("search", 1, "search")),
        "attribution": {"rules": [{"match": {"service": "shop"}, "set": {"project": "old"}}]},
    }
    with Served(tmp_path / "data", right) as served:
        send(served, "search")
        known = told(served, "search"), served.value(SUCCEEDED)
        file = served.data / "config.yaml"
        wrong: dict[str, Any] = {
            **budgets(budget("search", "0.001", "search"), budget("more", "much", "ads")),
            "attribution": {"rules": []},
        }
        said = served.reload(wrong)
        assert f"the configuration is kept as it was: {file}, line " in said
        assert "budgets.entries.1.amount.usd: Value error, is no amount of USD; got 'much'" in said
        assert (told(served, "search"), served.value(SUCCEEDED)) == known
        assert served.value(SUCCESSFUL) == 0
        for change, reason in (
            ({"prices": {"overlay": "none.json"}}, "prices:\n  overlay"),
            ({"access": {"tokens": "none.json"}}, "access:\n  tokens"),
        ):
            # A budget that is right comes with it, and is not taken.
            said = served.reload({**right, **budgets(budget("search", "0.002", "search")), **change})
            text = file.read_text(encoding="utf-8")
            line = text[: text.index(reason) + len(reason)].count("\n") + 1
            assert f"{file}, line {line}: " in said
            assert "none.json" in said
            assert (told(served, "search"), served.value(SUCCEEDED), served.value(SUCCESSFUL)) == (*known, 0)
        send(served, "search")
        with closing(sqlite3.connect(served.ledger)) as rows:
            assert rows.execute("SELECT DISTINCT project FROM usage").fetchall() == [("old",)]
        assert "changed: nothing;" in served.reload(right)
        assert served.value(SUCCESSFUL) == 1
        assert (served.value(SUCCEEDED) or 0) > (known[1] or 0)


def test_thresholds_and_digests_change_and_what_cannot_is_named(tmp_path: Path) -> None:
    with Served(tmp_path / "data", budgets(contracts=[{"tenant": "acme", "usd_per_hour": 1}])) as served:
        assert served.value("tenant_contract_usd_per_hour", tenant="acme", team="") == 1
        said = served.reload(
            {
                **budgets(contracts=[{"tenant": "acme", "usd_per_hour": 2}, {"tenant": "globex", "usd_per_hour": 3}]),
                "alerts": {"retry_storm_ratio": 0.7},
                "anomalies": {"min_calls": 7},
                "digest": {"entries": [{"name": "daily", "every": "day", "url": "http://127.0.0.1:9"}]},
                # The port is told by an option, which wins before and after.
                "listen": {"http_port": 1},
                "store": {"path": "other.db", "busy_seconds": 1.0},
                "telemetry": {"log_level": "DEBUG"},
            }
        )
        fixed = "store.path, store.busy_seconds, telemetry.log_level"
        assert f"changed, and left as it was until a restart: {fixed}\n" in said
        assert "changed: budgets, digest, alerts, anomalies;" in said
        assert served.value("tenant_contract_usd_per_hour", tenant="acme", team="") == 2
        assert served.value("tenant_contract_usd_per_hour", tenant="globex", team="") == 3
        assert served.value("alert_threshold", threshold="retry_storm_ratio") == 0.7
        assert served.value("anomaly_threshold", threshold="min_calls") == 7
        assert served.value("digest_failures_total", digest="daily") == 0
        assert not (served.data / "other.db").exists()
        deadline = time.monotonic() + 60
        # The first period of a new digest is only remembered: whoever does that sends from then on.
        while not (served.data / "digests.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # Still true, and so said again.
        assert f"until a restart: {fixed}\n" in served.reload()


# --- access and prices ------------------------------------------------------------------------------------
def status(served: Served, token: str | None) -> int:
    """Of a request that sends one call."""
    headers = {"content-type": "application/x-protobuf", **bearer(token)}
    return fetch(f"{served.http}/v1/logs", logs([usage_event()]).SerializeToString(), headers).status


def test_tokens_hold_and_cease_to_at_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    kept, revoked = (make_token(first, "admin", name=name) for name in ("kept", "revoked"))
    with Served(tmp_path / "data") as served:
        assert status(served, None) == 200
        served.reload({"access": {"tokens": "../first.json"}})
        assert [status(served, token) for token in (None, kept, revoked)] == [401, 200, 200]
        made = make_token(first, "ingest", name="made")
        tokens.revoke(first, tokens.id_of(revoked))
        served.reload()
        assert [status(served, token) for token in (kept, revoked, made)] == [200, 401, 200]
        assert get(served.metrics_url, made).status == 403
        other = make_token(second, "ingest", name="other")
        served.reload({"access": {"tokens": "../second.json", "requests_per_second": 0.01, "burst": 1}})
        assert [status(served, token) for token in (kept, other, other)] == [401, 200, 429]
        # Who has made too many requests still has.
        served.reload()
        assert status(served, other) == 429
        assert "without access.tokens anybody" in served.reload({})
        assert [status(served, token) for token in (None, revoked)] == [200, 200]


def rows(served: Served) -> list[tuple[str, int]]:
    """Book and cost of each call, in the order they came."""
    with closing(sqlite3.connect(served.ledger)) as found:
        return found.execute("SELECT book_id, cost FROM usage ORDER BY start").fetchall()


def test_an_overlay_prices_what_comes_next(tmp_path: Path) -> None:
    environment = {"GENAI_METER_PRICE_BOOK": "", "GENAI_METER_PRICE_OVERLAY": ""}
    overlay, book = tmp_path / "acme.json", shipped().book_id

    def discounted(multiplier: str) -> str:
        """Written; the id of the book with it."""
        document = compile_texts([(ACME.replace("0.88", multiplier), "acme.yaml")])
        overlay.write_text(to_json(document), encoding="utf-8")
        return f"{book}+ov:{document['sha256'][:8]}"

    with Served(tmp_path / "data", env=environment) as served:
        expected: list[tuple[str, int]] = []

        def call(book_id: str, cost: int) -> None:
            served.send(usage_event(start_ns=NOW + len(expected)))
            expected.append((book_id, cost))
            assert rows(served) == expected
            assert served.value("price_book_info", book_id=book_id) == 1

        call(book, 3_500_000_000)
        first = discounted("0.88")
        said = served.reload({"prices": {"overlay": "../acme.json"}})
        assert f"changed: prices; price book {first}\n" in said
        call(first, 3_080_000_000)
        # The same file with other contents, though the configuration names it as before.
        second = discounted("0.5")
        assert f"changed: nothing; price book {second}\n" in served.reload()
        call(second, 1_750_000_000)
        overlay.write_text(json.dumps({"schema": "none"}), encoding="utf-8")
        said = served.reload()
        assert f"line 4: the price overlay {served.data / '../acme.json'} cannot be used: " in said
        call(second, 1_750_000_000)


# --- under load -------------------------------------------------------------------------------------------
def test_twenty_reloads_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    """Each brings a budget that is read from the ledger meanwhile, and other prices and rules of attribution."""
    document = compile_texts([(ACME.replace("provider: openai", "provider: anthropic"), "acme.yaml")])
    (tmp_path / "acme.json").write_text(to_json(document), encoding="utf-8")
    sections: tuple[dict[str, Any], ...] = (
        {"prices": {"overlay": "../acme.json"}},
        {"attribution": {"rules": [{"match": {"service": "shop"}, "set": {"project": "reloaded"}}]}},
    )
    entries = [
        {"name": f"b{number}", "amount": {"usd": 1000}, "period": "2026-11-01/2027-10-31"} for number in range(21)
    ]
    with Served(tmp_path / "data", budgets(entries[0])) as served:
        with under_load(served) as load:
            for number in range(20):
                time.sleep(0.05)
                said = served.reload({**budgets(*entries[: number + 2]), **sections[number % 2]})
                assert "was read again; changed: prices, attribution, budgets;" in said or number == 0
        assert load.resent == 0
        assert stored(served) == load.acknowledged.keys()
        calls, cost = ledger(served)
        with closing(sqlite3.connect(served.ledger)) as found:
            assert found.execute("SELECT count(DISTINCT book_id) FROM usage").fetchone() == (2,)
            assert set(found.execute("SELECT DISTINCT project FROM usage")) == {(None,), ("reloaded",)}
        assert (calls, cost) == load.due
        assert scraped(served) == (calls, near(cost))
        assert spend(served) == {entry["name"]: (near(cost), near(cost)) for entry in entries}
        assert served.stop() == 0
