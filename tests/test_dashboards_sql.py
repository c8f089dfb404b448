"""The dashboards that read the ledger's own database: every query on PostgreSQL and on ClickHouse, against its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest
from dashboard_kit import Asked, queries
from exporter_kit import NOW, Event, logs, usage_event
from genai_meter_exporter.normalise import normalise
from genai_meter_exporter.receive import protobuf
from ledger_kit import ClickHouseLedger, Ledger, PostgresLedger, ledger_of_engine

pytestmark = pytest.mark.timeout(300)

HOUR = 3600 * 10**9
SINCE, UNTIL = NOW - HOUR, NOW + HOUR
MACROS = {
    "$__unixEpochNanoFrom()": str(SINCE),
    "$__unixEpochNanoTo()": str(UNTIL),
    "$__fromTime": f"toDateTime({SINCE // 10**9})",
    "$__toTime": f"toDateTime({UNTIL // 10**9})",
}
TITLES = [asked.title for asked in queries("grafana-postgresql-datasource")]


@pytest.fixture(scope="module", params=["clickhouse", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """An empty ledger of each engine."""
    yield from ledger_of_engine(request, tmp_path_factory.mktemp("ledger"))


def _outcome(number: int, **more: Any) -> Event:
    told = {"id": str(number), "name": "resolved", "success": number != 3}
    named = {f"genai_meter.outcome.{name}": value for name, value in told.items()}
    named |= {"genai_meter.experiment": "tone", "genai_meter.experiment.variant": "b", **more}
    return Event({"genai_meter.schema_version": "1", **named}, name="genai_meter.outcome", time_ns=NOW)


def prompt(version: str) -> dict[str, Any]:
    return {"prompt_name": "reply", "prompt_version": version}


@pytest.fixture(scope="module")
def filled(ledger: Ledger) -> Ledger:
    """Calls of two variants, two prompt versions, two runs, two users; one outside of the time range."""
    common: dict[str, Any] = {"experiment": "tone", "feature": "chat", "tenant": "acme", "provider": "openai"}
    run: dict[str, Any] = {"workflow": "w", "variant": "b"}
    failed: dict[str, Any] = {"status": "error", "error_type": "rate_limit", "usage_source": "unknown"}
    ledger.send(
        usage_event(**common, **prompt("1"), variant="a", version="7", user="u-1", input_tokens=900),
        usage_event(**common, **prompt("2"), variant="a", version="7", user="u-2", input_tokens=100),
        usage_event(**common, **prompt("2"), **run, version="8", user="u-2", run_id="r-1"),
        usage_event(**common, **run, run_id="r-2", conversation_id="c-1", api_key="key:1"),
        usage_event(**common, **run, start_ns=NOW - 2 * HOUR, user="u-1", run_id="r-2"),
        usage_event(**common, **failed, input_tokens=0, output_tokens=0),
    )
    for number in (1, 2, 3):
        ledger.put(normalise(protobuf.parse("logs", logs([_outcome(number)]).SerializeToString())))
    return ledger


def ask(ledger: Ledger, sql: str) -> list[dict[str, Any]]:
    """Rows by the names of their columns, as Grafana gets them."""
    for macro, value in MACROS.items():
        sql = sql.replace(macro, value)
    assert "$" not in sql
    if isinstance(ledger, PostgresLedger):
        import psycopg
        from psycopg.rows import dict_row

        with psycopg.connect(ledger.url) as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(sql.encode()).fetchall()
    assert isinstance(ledger, ClickHouseLedger)
    from genai_meter_exporter.store.clickhouse_reader import connect

    ledger.settle()
    client = connect(ledger.url)
    try:
        found = client.query(sql)
        return [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]
    finally:
        client.close()


def query(ledger: Ledger, title: str) -> Asked:
    plugin = "grafana-postgresql-datasource" if isinstance(ledger, PostgresLedger) else "grafana-clickhouse-datasource"
    return next(asked for asked in queries(plugin) if asked.title == title)


def cost_of(ledger: Ledger, keep: Callable[[Mapping[str, Any]], bool]) -> float:
    rows = (row for row in ledger.rows().values() if SINCE <= row["start"] <= UNTIL and keep(row))
    return sum(row["cost"] or 0 for row in rows) / 1e12


@pytest.mark.parametrize("title", TITLES)
def test_query_returns_what_its_table_shows(filled: Ledger, title: str) -> None:
    asked = query(filled, title)
    rows = ask(filled, asked.target["rawSql"])
    assert rows
    organize = next(t for t in asked.panel["transformations"] if t["id"] == "organize")["options"]
    assert set(organize["renameByName"]) == set(rows[0])


def test_experiments_have_cost_beside_success(filled: Ledger) -> None:
    rows = ask(filled, query(filled, "Experiment variants").target["rawSql"])
    found = {row["variant"]: plain(row) for row in rows}
    both = {variant: cost_of(filled, lambda row, variant=variant: row["variant"] == variant) for variant in "ab"}
    assert {row["experiment"] for row in rows} == {"tone"}
    assert {name: (row["calls"], row["outcomes"] or None) for name, row in found.items()} == {
        "a": (2, None),
        "b": (2, 3),
    }
    assert {name: row["cost_usd"] for name, row in found.items()} == pytest.approx(both, rel=1e-9)
    assert found["b"]["success_rate"] == pytest.approx(2 / 3)
    assert found["b"]["cost_per_success"] == pytest.approx(both["b"] / 2)
    assert found["a"]["cost_per_success"] is None
    assert 200 <= found["a"]["p50"] <= 1000
    assert 200 <= found["a"]["p99"] <= 1000


@pytest.mark.parametrize(
    ("title", "columns", "expected"),
    [
        ("Prompt versions", ("prompt_version",), {("1",): 1, ("2",): 2}),
        ("Releases", ("version",), {("7",): 4, ("8",): 1}),
        ("Runs of workflows", ("workflow", "run_id"), {("w", "r-1"): 1, ("w", "r-2"): 1}),
        ("Conversations", ("conversation_id",), {("c-1",): 1}),
        ("Users", ("user",), {("u-1",): 1, ("u-2",): 2}),
        ("API keys", ("api_key",), {("key:1",): 1}),
        ("Errors by type", ("error_type",), {("rate_limit",): 1}),
    ],
)
def test_calls_and_cost_are_those_of_the_rows(
    filled: Ledger, title: str, columns: Sequence[str], expected: dict[tuple[str, ...], int]
) -> None:
    rows = [plain(row) for row in ask(filled, query(filled, title).target["rawSql"])]
    found = {tuple(row[name] for name in columns): row for row in rows}
    assert {key: row["calls"] for key, row in found.items()} == expected
    for key, row in found.items():
        wanted = dict(zip(columns, key, strict=True))
        cost = cost_of(filled, lambda one, wanted=wanted: all(one[name] == value for name, value in wanted.items()))
        assert (row["cost_usd"] or 0) == pytest.approx(cost, rel=1e-9)


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(value) if isinstance(value, Decimal) else value for name, value in row.items()}
