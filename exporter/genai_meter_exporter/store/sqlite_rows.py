"""The ledger's tables in SQLite, inside the open transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from operator import add
from typing import Any, Final

import orjson

from genai_meter_exporter.cells import DIMENSIONS, MEASURES, MONEY, Cell, Measures
from genai_meter_exporter.columns import Columns
from genai_meter_exporter.series import Deltas
from genai_meter_exporter.store import together
from genai_meter_exporter.store.layout import STORED, cell_id, packed

MICRO: Final = 1_000_000
"""Pico-USD in a micro-USD: sums are kept in both, so that none overflows 64 bits."""

DAY_SECONDS: Final = 86_400

_CHUNK: Final = 500
"""Parameters of one lookup; SQLite's limit has been 999."""

_CELLS_KEPT: Final = 200_000

_KEY_BYTES: Final = 16


@lru_cache(500)
def _upsert_sums(table: str, told: tuple[str, ...]) -> str:
    """Add to a roll-up: the start of the quarter or day, the cell, then these measures; the others are zero."""
    columns = ["start", "cell"]
    values = ["?", "?"]
    updates: list[str] = []
    for name in MEASURES:
        parts = [f"{name}_micro", f"{name}_pico"] if name in MONEY else [name]
        columns += parts
        values += ["?" if name in told else "0"] * len(parts)
        if name not in told:
            continue
        if name in MONEY:
            carry = f"({name}_pico + excluded.{name}_pico)"
            updates.append(f"{name}_micro = {name}_micro + excluded.{name}_micro + {carry} / {MICRO}")
            updates.append(f"{name}_pico = {carry} % {MICRO}")
        else:
            updates.append(f"{name} = {name} + excluded.{name}")
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(values)}) "
        f"ON CONFLICT DO UPDATE SET {', '.join(updates)}"
    )


_OFTEN_EQUAL: Final = frozenset(
    {"recorded_at", "source", "source_rank", "revision", "links", "attempt_count", "cache_write_tokens"}
    | {"reasoning_tokens", "cost_status", "cost_reasons", "book_id"}
)
"""Columns of calls that come together."""
_CELL: Final = ("id", *DIMENSIONS)
_INSERT_LINKED: Final = "INSERT OR IGNORE INTO linked VALUES (?, ?, ?, ?, ?, ?)"
_ADD_LINK: Final = "UPDATE call SET links = json_insert(COALESCE(links, '[]'), '$[#]', ?) WHERE call_id = ?"
_UPSERT_COUNTER: Final = (
    "INSERT INTO counter (family, labels, hi, lo) VALUES (?, ?, ?, ?) "
    f"ON CONFLICT DO UPDATE SET hi = hi + excluded.hi + (lo + excluded.lo) / {MICRO}, "
    f"lo = (lo + excluded.lo) % {MICRO}"
)
_UPSERT_LAST: Final = (
    "INSERT INTO last_event VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET time_ns = MAX(time_ns, excluded.time_ns)"
)


class SqliteRows:
    """What `placing` writes to, and the sums that follow from it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._cells: dict[tuple[str, ...], int] = {}
        """Dimensions that the file has."""
        self.fresh: list[bytes] = []
        """Keys of the calls that the open transaction has put in."""
        self._any_linked = db.execute("SELECT 1 FROM linked LIMIT 1").fetchone() is not None

    def forget(self) -> None:
        """After a rollback the file may lack what this transaction put in."""
        self._cells.clear()
        self.fresh.clear()

    def known(self, keys: Sequence[bytes]) -> tuple[dict[bytes, int], set[tuple[bytes, str]]]:
        """Of these keys: those of calls with their source ranks, and those of linked records with their sources."""
        ranks: dict[bytes, int] = {}
        linked: set[tuple[bytes, str]] = set()
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ", ".join("?" * len(chunk))
            ranks.update(
                (row[0], row[1])
                for row in self._db.execute(f"SELECT call_id, source_rank FROM call WHERE call_id IN ({marks})", chunk)
            )
            if self._any_linked:
                found = self._db.execute(f"SELECT call_id, source FROM linked WHERE call_id IN ({marks})", chunk)
                linked.update((row[0], row[1]) for row in found)
        return ranks, linked

    def recent(self, since_ns: int) -> Iterator[bytes]:
        """Keys of calls that have come since, or a little before, in the order in which they came."""
        for (keys,) in self._db.execute("SELECT keys FROM recent WHERE seen >= ? ORDER BY seen", (since_ns,)):
            yield from (keys[start : start + _KEY_BYTES] for start in range(0, len(keys), _KEY_BYTES))

    def keep_recent(self, now_ns: int, since_ns: int) -> None:
        """Remember what the open transaction has put in; forget what came before `since_ns`."""
        if self.fresh:
            self._db.execute("DELETE FROM recent WHERE seen < ?", (since_ns,))
            self._db.execute("INSERT INTO recent VALUES (?, ?)", (now_ns, b"".join(self.fresh)))
            self.fresh.clear()

    def get(self, call_id: bytes) -> dict[str, Any] | None:
        """All columns of a call."""
        row = self._db.execute("SELECT * FROM usage WHERE call_id = ?", (call_id,)).fetchone()
        return None if row is None else dict(row)

    def insert(self, calls: Columns) -> None:
        """New calls."""
        columns = packed(calls, self._ids(calls.dimensions))
        together.insert(self._db, "call", STORED, columns, often_equal=_OFTEN_EQUAL)
        self.fresh += calls.told["call_id"]

    def delete(self, call_id: bytes) -> None:
        """A call that another record has replaced."""
        self._db.execute("DELETE FROM call WHERE call_id = ?", (call_id,))

    def link(self, key: bytes, source: str, charge: bytes, rule: str, recorded_at: int, record: str) -> None:
        """Keep a record (JSON) beside the call it repeats; nothing happens when it is there."""
        self._any_linked = True
        self._db.execute(_INSERT_LINKED, (key, source, charge, rule, recorded_at, record))

    def add_link(self, call_id: bytes, link: str) -> None:
        """Name a linked record in its call's `links`."""
        self._db.execute(_ADD_LINK, (link, call_id))

    def move_links(self, old: bytes, new: bytes) -> None:
        """What was linked to one call belongs to another."""
        self._db.execute("UPDATE linked SET charge = ? WHERE charge = ?", (new, old))

    def keep_revision(self, call_id: bytes, revision: int, recorded_at: int, reason: str, price: str) -> None:
        """What the price of a call was."""
        self._db.execute("INSERT INTO revision VALUES (?, ?, ?, ?, ?)", (call_id, revision, recorded_at, reason, price))

    def set_columns(self, call_id: bytes, changed: Mapping[str, Any]) -> None:
        """Change columns of the table `call`."""
        self._db.execute(
            f"UPDATE call SET {', '.join(f'{name} = ?' for name in changed)} WHERE call_id = ?",
            (*changed.values(), call_id),
        )

    def add_sums(self, rollup: Mapping[Cell, Measures], deltas: Deltas) -> None:
        """Roll-ups of both grains, counters, latest events: with the rows they follow from."""
        cells = self._ids([dimensions for _, dimensions in rollup])
        quarters = list(zip((start for start, _ in rollup), cells, strict=True))
        days: dict[tuple[int, int], Measures] = {}
        for (start, cell), what in zip(quarters, rollup.values(), strict=True):
            day = start // DAY_SECONDS * DAY_SECONDS, cell
            before = days.get(day)
            days[day] = what if before is None else tuple(map(add, before, what))
        self._add_to("rollup", quarters, rollup.values())
        self._add_to("rollup_day", days, days.values())
        self._db.executemany(_UPSERT_COUNTER, _counter_rows(deltas))
        self._db.executemany(_UPSERT_LAST, [(*where, at) for where, at in deltas.last_events.items()])

    def _add_to(self, table: str, where: Collection[tuple[int, int]], sums: Iterable[Measures]) -> None:
        if not where:
            return
        told: list[str] = []
        columns: list[Sequence[int]] = []
        for name, amounts in zip(MEASURES, zip(*sums, strict=True), strict=True):
            # Most measures of most calls are zero, and each costs as much as one that is not.
            if name == "calls" or any(amounts):
                told.append(name)
                columns += zip(*map(divmod, amounts, repeat(MICRO)), strict=True) if name in MONEY else (amounts,)
        rows = ((*place, *what) for place, what in zip(where, zip(*columns, strict=True), strict=True))
        self._db.executemany(_upsert_sums(table, tuple(told)), rows)

    def _ids(self, wanted: Sequence[tuple[str, ...]]) -> list[Any]:
        """Keys of dimensions; those that the file has not are put in."""
        known = self._cells
        if len(known) > _CELLS_KEPT:
            known.clear()
        found = list(map(known.get, wanted))
        if None not in found:
            return found
        missing = {dimensions for dimensions, cell in zip(wanted, found, strict=True) if cell is None}
        new = {dimensions: cell_id(dimensions) for dimensions in missing}
        columns = [list(new.values()), *zip(*new, strict=True)]
        together.insert(self._db, "cell", _CELL, columns, conflict="IGNORE")
        known.update(new)
        return list(map(known.__getitem__, wanted))


def _counter_rows(deltas: Deltas) -> list[tuple[Any, ...]]:
    return [(family, labels_json(labels), *divmod(amount, MICRO)) for (family, labels), amount in deltas.values.items()]


def labels_json(labels: tuple[str, ...]) -> str:
    """The key of a series in the table `counter`."""
    return orjson.dumps(labels).decode()
