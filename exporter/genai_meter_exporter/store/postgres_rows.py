"""The ledger's tables in PostgreSQL, inside the open transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from psycopg import Connection

from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cells import COUNTS, DIMENSIONS, MEASURES, Cell, Measures
from genai_meter_exporter.columns import Columns
from genai_meter_exporter.normalise.record import Batch, Beside, UsageRecord
from genai_meter_exporter.series import Deltas, SeriesKey
from genai_meter_exporter.store import beside, rows
from genai_meter_exporter.store.layout import STORED, cell_id, packed
from genai_meter_exporter.store.linking import LinkingIndex
from genai_meter_exporter.store.sqlite_rows import DAY_SECONDS, labels_json

_CELLS_KEPT: Final = 200_000

_COPY_CALLS: Final = "COPY call ({}) FROM STDIN".format(", ".join(f'"{name}"' for name in STORED))
_INSERT_CELLS: Final = "INSERT INTO cell SELECT * FROM unnest(%s::bigint[], {}) ON CONFLICT DO NOTHING".format(
    ", ".join(["%s::text[]"] * len(DIMENSIONS))
)


def _upsert_rollup(table: str) -> str:
    types = ["bigint[]"] * (2 + len(COUNTS)) + ["numeric[]"] * (len(MEASURES) - len(COUNTS))
    updates = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in MEASURES)
    return (
        f"INSERT INTO {table} (start, cell, {', '.join(MEASURES)}) "
        f"SELECT * FROM unnest({', '.join(f'%s::{kind}' for kind in types)}) "
        f"ON CONFLICT (start, cell) DO UPDATE SET {updates}"
    )


_UPSERT_ROLLUP: Final = _upsert_rollup("rollup")
_UPSERT_DAY: Final = _upsert_rollup("rollup_day")
_UPSERT_COUNTER: Final = (
    "INSERT INTO counter (instance, family, labels, value) "
    "SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::numeric[]) "
    "ON CONFLICT (instance, family, labels) DO UPDATE SET value = counter.value + excluded.value"
)
_UPSERT_LAST: Final = (
    "INSERT INTO last_event SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[]) "
    "ON CONFLICT (team, environment, service) "
    "DO UPDATE SET time_ns = GREATEST(last_event.time_ns, excluded.time_ns)"
)
_ADD_LINK: Final = (
    "UPDATE call SET links = (COALESCE(links, '[]')::jsonb || jsonb_build_array(%s::text))::text WHERE call_id = %s"
)


class PostgresRows:
    """What `placing` writes to, and the sums that follow from it."""

    def __init__(self, connection: Connection[dict[str, Any]], instance: str) -> None:
        self._db = connection
        self._instance = instance
        self._cells: dict[tuple[str, ...], int] = {}
        """Dimensions that the database has."""

    def forget(self) -> None:
        """After a rollback the database may lack what this transaction put in."""
        self._cells.clear()

    def known(self, keys: Sequence[bytes]) -> tuple[dict[bytes, int], set[tuple[bytes, str]]]:
        """Of these keys: those of calls with their source ranks, and those of linked records with their sources."""
        calls = self._db.execute("SELECT call_id, source_rank FROM call WHERE call_id = ANY(%s)", (list(keys),))
        ranks = {row["call_id"]: row["source_rank"] for row in calls}
        linked = self._db.execute("SELECT call_id, source FROM linked WHERE call_id = ANY(%s)", (list(keys),))
        return ranks, {(row["call_id"], row["source"]) for row in linked}

    def get(self, call_id: bytes) -> dict[str, Any] | None:
        """All columns of a call."""
        return self._db.execute("SELECT * FROM usage WHERE call_id = %s", (call_id,)).fetchone()

    def insert(self, calls: Columns) -> None:
        """New calls. One transaction writes at a time: nothing can be there."""
        columns = packed(calls, self._ids(calls.dimensions))
        with self._db.cursor().copy(_COPY_CALLS) as copy:
            for row in zip(*columns, strict=True):
                copy.write_row(row)

    def delete(self, call_id: bytes) -> None:
        """A call that another record has replaced."""
        self._db.execute("DELETE FROM call WHERE call_id = %s", (call_id,))

    def link(self, key: bytes, source: str, charge: bytes, rule: str, recorded_at: int, record: str) -> None:
        """Keep a record (JSON) beside the call it repeats; nothing happens when it is there."""
        values = orjson.loads(record)
        self._db.execute(
            "INSERT INTO linked VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (key, source, charge, rule, recorded_at, record, values.get("trace_id"), values.get("response_id")),
        )

    def add_link(self, call_id: bytes, link: str) -> None:
        """Name a linked record in its call's `links`."""
        self._db.execute(_ADD_LINK, (link, call_id))

    def move_links(self, old: bytes, new: bytes) -> None:
        """What was linked to one call belongs to another."""
        self._db.execute("UPDATE linked SET charge = %s WHERE charge = %s", (new, old))

    def keep_revision(self, call_id: bytes, revision: int, recorded_at: int, reason: str, price: str) -> None:
        """What the price of a call was."""
        self._db.execute(
            "INSERT INTO revision VALUES (%s, %s, %s, %s, %s)", (call_id, revision, recorded_at, reason, price)
        )

    def set_columns(self, call_id: bytes, changed: Mapping[str, Any]) -> None:
        """Change columns of the table `call`."""
        changes = ", ".join(f'"{name}" = %s' for name in changed)
        self._db.execute(f"UPDATE call SET {changes} WHERE call_id = %s".encode(), (*changed.values(), call_id))

    def add_sums(self, rollup: Mapping[Cell, Measures], deltas: Deltas) -> None:
        """Roll-ups of both grains, counters, latest events: with the rows they follow from."""
        days: dict[tuple[int, int], Measures] = {}
        quarters: list[tuple[int, ...]] = []
        cells = self._ids([dimensions for _, dimensions in rollup])
        for (start, _), cell, what in zip(rollup, cells, rollup.values(), strict=True):
            quarters.append((start, cell, *what))
            day = start // DAY_SECONDS * DAY_SECONDS, cell
            before = days.get(day)
            days[day] = what if before is None else tuple(map(int.__add__, before, what))
        self._unnest(_UPSERT_ROLLUP, quarters)
        self._unnest(_UPSERT_DAY, [(*day, *what) for day, what in days.items()])
        counters = [(family, labels_json(labels), amount) for (family, labels), amount in deltas.values.items()]
        self._unnest(_UPSERT_COUNTER, counters, self._instance)
        self._unnest(_UPSERT_LAST, [(*where, at) for where, at in deltas.last_events.items()])

    def mark_shown(self, shown: Sequence[SeriesKey]) -> None:
        """A scrape of this exporter has had these series at zero."""
        keys = [(family, labels_json(labels)) for family, labels in shown]
        self._unnest(
            "UPDATE counter SET shown = true FROM (SELECT %s AS instance, * FROM unnest(%s::text[], %s::text[]) "
            "AS u (family, labels)) AS s WHERE counter.instance = s.instance AND counter.family = s.family "
            "AND counter.labels = s.labels",
            keys,
            self._instance,
        )

    def add_beside(self, events: Sequence[Beside], deltas: Deltas, bounds: Bounds, now_ns: int) -> None:
        """Outcomes and cache hits that are new."""
        for kind, columns in beside.COLUMNS.items():
            new = {event.key: event for event in reversed(events) if event.kind == kind}
            if not new:
                continue
            for row in self._db.execute(f"SELECT id FROM {kind} WHERE id = ANY(%s)", (list(new),)).fetchall():
                del new[row["id"]]
            names = ", ".join(f'"{name}"' for name in columns)
            with self._db.cursor() as cursor:
                cursor.executemany(
                    f"INSERT INTO {kind} ({names}) VALUES ({', '.join(['%s'] * len(columns))})".encode(),
                    [beside.row_of(event, columns, now_ns) for event in new.values()],
                )
            for event in new.values():
                beside.count(deltas, bounds, event)

    def add_quarantine(self, entries: Sequence[tuple[bytes, str, str, str, str]], now_ns: int, kept: int) -> None:
        """What could not be read; the oldest make room."""
        if not entries:
            return
        with self._db.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO quarantine VALUES (%s, %s, %s, %s, %s, %s, %s, 1) ON CONFLICT (digest) "
                "DO UPDATE SET last_seen = excluded.last_seen, times = quarantine.times + 1",
                [(*(_clean(value) for value in entry), now_ns, now_ns) for entry in entries],
            )
        self._db.execute(
            "DELETE FROM quarantine WHERE digest IN (SELECT digest FROM quarantine ORDER BY last_seen DESC OFFSET %s)",
            (kept,),
        )

    def add_parents(self, parents: Iterable[tuple[bytes, bytes]], now_ns: int) -> None:
        """The way up from spans (trace id + span id, parent span id)."""
        known = {span: parent for span, parent in parents if len(span) == 24 and len(parent) == 8}
        self._unnest(
            "INSERT INTO span_parent SELECT u.*, %s FROM unnest(%s::bytea[], %s::bytea[], %s::bytea[]) AS u "
            "ON CONFLICT DO NOTHING",
            [(span[:16], span[16:], parent) for span, parent in known.items()],
            now_ns,
        )

    def index_for(self, batches: Sequence[Batch], window_ns: int, now_ns: int) -> LinkingIndex:
        """Every charge of the window that a record of these batches may be another account of."""
        records = [record for batch in batches for record in batch.records]
        keys = [record.key for record in records]
        responses = list({found for record in records if (found := record.values.get("response_id"))})
        traces = {record.trace_id for record in records if record.span_id}
        told = {"keys": keys, "responses": responses, "traces": [t.hex() for t in traces], "since": now_ns - window_ns}
        charges = self._db.execute(_CANDIDATES, told).fetchall()
        linked: dict[bytes, list[UsageRecord]] = {}
        for row in self._db.execute(
            "SELECT charge, record FROM linked WHERE charge = ANY(%s)", ([row["call_id"] for row in charges],)
        ):
            values = orjson.loads(row["record"])
            linked.setdefault(row["charge"], []).append(rows.record_of(values, bytes.fromhex(values["call_id"])))
        index = LinkingIndex(window_ns)
        for row in charges:
            charge = index.add(rows.record_of(row, row["call_id"]), row["recorded_at"])
            for other in linked.get(row["call_id"], ()):
                index.join(charge, other)
        for row in self._db.execute(
            "SELECT trace_id, span_id, parent FROM span_parent WHERE trace_id = ANY(%s)", (list(traces),)
        ):
            index.learn_parents([(row["trace_id"] + row["span_id"], row["parent"])])
        index.begin()
        return index

    def _ids(self, wanted: Sequence[tuple[str, ...]]) -> list[int]:
        """Keys of dimensions; those that the database has not are put in."""
        known = self._cells
        if len(known) > _CELLS_KEPT:
            known.clear()
        new = [(cell_id(dimensions), *dimensions) for dimensions in set(wanted) if dimensions not in known]
        self._unnest(_INSERT_CELLS, new)
        known.update((tuple(row[1:]), row[0]) for row in new)
        return [known[dimensions] for dimensions in wanted]

    def _unnest(self, sql: str, found: Sequence[tuple[Any, ...]], *before: Any) -> None:
        """One statement for many rows: a column is an array."""
        if found:
            self._db.execute(sql.encode(), (*before, *map(list, zip(*found, strict=True))))


_CANDIDATES: Final = """
WITH found AS (
    SELECT call_id FROM call WHERE call_id = ANY(%(keys)s)
    UNION SELECT call_id FROM call WHERE response_id = ANY(%(responses)s)
    UNION SELECT call_id FROM call WHERE trace_id = ANY(%(traces)s)
    UNION SELECT charge FROM linked WHERE call_id = ANY(%(keys)s)
    UNION SELECT charge FROM linked WHERE response_id = ANY(%(responses)s)
    UNION SELECT charge FROM linked WHERE trace_id = ANY(%(traces)s)
)
SELECT usage.* FROM usage JOIN found USING (call_id) WHERE recorded_at >= %(since)s ORDER BY recorded_at, call_id
"""


def _clean(value: Any) -> Any:
    """PostgreSQL's text cannot hold NUL."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value
