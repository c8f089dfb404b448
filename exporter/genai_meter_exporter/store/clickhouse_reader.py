"""Reports from ClickHouse, from any process: what the exporters have moved out of their journals."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import clickhouse_connect
import orjson
from clickhouse_connect.driver.exceptions import ClickHouseError

from genai_meter_exporter.normalise.record import Kind
from genai_meter_exporter.store import beside, dialects
from genai_meter_exporter.store.base import Query, StoreError
from genai_meter_exporter.store.dialects import CLICKHOUSE
from genai_meter_exporter.store.layout import COLUMNS
from genai_meter_exporter.store.reader import check_kept, key_bounds, net, rollup_can

_CALLS: Final = dialects.ledger("call FINAL")
_ROLLUP: Final = dialects.rollup("rollup FINAL")
_ROW: Final = ", ".join(f"`{name}`" for name in COLUMNS)
_AT_ONCE: Final = 10_000

_OTHERS: Final[Mapping[str, tuple[Sequence[str], str, str]]] = {
    "linked": (
        ("call_id", "source", "charge", "rule", "recorded_at", "record"),
        "c.start",
        "(SELECT * FROM linked FINAL) AS t JOIN (SELECT call_id, start FROM call FINAL) AS c ON c.call_id = t.charge",
    ),
    "revision": (
        ("call_id", "revision", "recorded_at", "reason", "price"),
        "c.start",
        "(SELECT * FROM revision FINAL) AS t JOIN (SELECT call_id, start FROM call FINAL) AS c USING call_id",
    ),
    **{kind: (columns, "t.time_ns", f"(SELECT * FROM {kind} FINAL) AS t") for kind, columns in beside.COLUMNS.items()},
}
"""Table → its columns, its time, where it is read from."""


class ClickHouseReader:
    """A client that reads only."""

    def __init__(self, url: str) -> None:
        self._client = connect(url)
        if not self._all("SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'call'"):
            self._client.close()
            raise StoreError("the database is no genai-meter store, or has never been opened by `genai-meter serve`")

    def get(self, call_id: bytes) -> Mapping[str, Any] | None:
        """The ledger row of a call, by its own id or by that of a record linked to it."""
        for condition in (
            "call_id = {p0:String}",
            "call_id IN (SELECT charge FROM linked FINAL WHERE call_id = {p0:String})",
        ):
            found = self._all(f"SELECT {_ROW} FROM call FINAL WHERE {condition}", {"p0": call_id.hex()})
            if found:
                return _row(found[0])
        return None

    def revisions(self, call_id: bytes) -> list[Mapping[str, Any]]:
        """What the price of a call was, oldest first: `revision`, `recorded_at`, `reason`, `price` (JSON)."""
        names = ("revision", "recorded_at", "reason", "price")
        found = self._all(
            f"SELECT {', '.join(names)} FROM revision FINAL WHERE call_id = {{p0:String}} ORDER BY revision",
            {"p0": call_id.hex()},
        )
        return [dict(zip(names, row, strict=True)) for row in found]

    def calls(self, query: Query) -> Iterator[Mapping[str, Any]]:
        """The rows of a span of time, in order; `by` does not matter."""
        check_kept(query, self.raw_since())
        where, parameters = dialects.of_calls(CLICKHOUSE, _CALLS, query)
        yield from self._calls(where, parameters)

    def _calls(self, where: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        # A page at a time by the key: a read that lasts keeps no connection waiting.
        last = ""
        while True:
            condition = f"{where} {'AND' if where else 'WHERE'} call_id > {{last:String}}"
            found = self._all(
                f"SELECT {_ROW} FROM call FINAL{condition} ORDER BY call_id LIMIT {_AT_ONCE}",
                {**parameters, "last": last},
            )
            yield from map(_row, found)
            if len(found) < _AT_ONCE:
                return
            last = found[-1][COLUMNS.index("call_id")]

    def lines(self, since_ns: int, until_ns: int, *, by_key: bool) -> Iterator[tuple[int, bytes]]:
        """The calls of a span of time: when they started, and what is known of them as JSON, the key in hex."""
        first, last = (key.hex() for key in key_bounds(since_ns, until_ns, by_key))
        where = (
            " WHERE start >= {since:Int64} AND start < {until:Int64} "
            "AND call_id >= {first_key:String} AND call_id <= {last_key:String}"
        )
        told = {"since": since_ns, "until": until_ns, "first_key": first, "last_key": last}
        for row in self._calls(where, told):
            known = {name: value for name, value in row.items() if value is not None}
            yield row["start"], orjson.dumps(known, default=bytes.hex)

    def others(self, table: str, since_ns: int, until_ns: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Rows of `linked`, `revision`, `outcome` or `cache_hit`, each with its time: that of its call, or its own."""
        names, time, source = _OTHERS[table]
        columns = ", ".join(f"t.`{name}`" for name in names)
        sql = f"SELECT {time}, {columns} FROM {source} WHERE {time} >= {{since:Int64}} AND {time} < {{until:Int64}}"
        for time_ns, *row in self._all(sql, {"since": since_ns, "until": until_ns}):
            values = dict(zip(names, row, strict=True))
            for name in ("call_id", "charge", "id"):
                if name in values:
                    values[name] = bytes.fromhex(values[name])
            yield time_ns, values

    def pending(self) -> int:
        """Revisions wait in the journals of the exporters that write them."""
        return 0

    def report(self, query: Query) -> list[dict[str, Any]]:
        """One row a group, the highest cost first; from the roll-ups when they can answer."""
        rolled_up = rollup_can(query)
        if not rolled_up:
            check_kept(query, self.raw_since())
        sql, parameters = dialects.report(CLICKHOUSE, _ROLLUP if rolled_up else _CALLS, query)
        return dialects.rows_of(query, self._all(sql, parameters))

    def beside(self, kind: Kind, query: Query) -> list[dict[str, Any]]:
        """One row a group of outcomes or cache hits: its dimensions, `events`, `successes`, `amount` in pico-USD."""
        source = dialects.events(f"{kind} FINAL", kind)
        sql, parameters = dialects.report_beside(CLICKHOUSE, source, kind, query)
        return dialects.rows_of(query, self._all(sql, parameters), dialects.BESIDE_MEASURES)

    def counted(self) -> tuple[int, int]:
        """The same by the counters of all exporters: charges less withdrawals and credits."""
        found = self._all("SELECT family, sum(value) FROM counter FINAL GROUP BY family")
        return net({row[0]: row[1] for row in found})

    def raw_since(self) -> int:
        """Calls that started before have been removed; 0: none has."""
        found = self._all("SELECT value FROM fact FINAL WHERE name = 'raw_since'")
        return found[0][0] if found else 0

    def totals(self) -> tuple[int, int]:
        """Calls and cost (pico-USD) of the whole ledger, summed from its rows."""
        ((calls, cost),) = self._all("SELECT count(), sum(toInt128(coalesce(cost, 0))) FROM call FINAL")
        return calls, int(cost)

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _all(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        try:
            return self._client.query(sql, parameters=dict(parameters or {})).result_rows
        except (ClickHouseError, OSError) as error:
            raise StoreError(f"ClickHouse cannot be read: {told(error)}") from None


def connect(url: str) -> Any:
    """A client for `clickhouse://user@host:8123/database`; `clickhouses://` for TLS; raises `StoreError`.

    `chdb:///path/database` is the same engine in this process, for trials.
    """
    for name in ("clickhouse_connect", "urllib3"):
        # They tell each attempt; what comes of it is told by whoever asked.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    parts = urlsplit(url)
    path, _, database = parts.path.rpartition("/")
    where: dict[str, Any] = {"interface": "chdb", "path": path}
    if parts.scheme != "chdb":
        secure = parts.scheme == "clickhouses"
        where = {
            "host": parts.hostname,
            "port": parts.port or (8443 if secure else 8123),
            "secure": secure,
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password or "") or os.environ.get("CLICKHOUSE_PASSWORD", ""),
            "connect_timeout": 5,
            # A client is used by one thread; sessions would only forbid a second request.
            "autogenerate_session_id": False,
            **dict(parse_qsl(parts.query)),
        }
    try:
        return cast(Any, clickhouse_connect).get_client(database=unquote(database) or "default", **where)
    except (ClickHouseError, OSError) as error:
        raise StoreError(f"ClickHouse does not answer at {parts.hostname or path}: {told(error)}") from None


def told(error: Exception) -> str:
    """The first line, without what was sent."""
    return str(error).partition("\n")[0][:200]


def _row(found: Sequence[Any]) -> dict[str, Any]:
    row = dict(zip(COLUMNS, found, strict=True))
    row["call_id"] = bytes.fromhex(row["call_id"])
    return row
