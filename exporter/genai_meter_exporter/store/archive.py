"""Days as files, Parquet or CSV: written, read back, and reported on, by DuckDB.

A file a day (UTC) and table; times in Unix nanoseconds, money in pico-USD, both whole numbers: nothing is lost between
one store and another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

import duckdb
import orjson

from genai_meter_exporter.normalise.record import Kind
from genai_meter_exporter.store import beside, dialects
from genai_meter_exporter.store.base import Query, Reader, StoreError
from genai_meter_exporter.store.dialects import DUCKDB
from genai_meter_exporter.store.layout import KINDS

Form: TypeAlias = Literal["parquet", "csv"]

DAY_NS: Final = 86_400_000_000_000

_TYPE: Final = {
    "text": "VARCHAR",
    "json": "VARCHAR",
    "int": "BIGINT",
    "bool": "BIGINT",
    "time": "BIGINT",
    "pico_usd": "BIGINT",
    "float": "DOUBLE",
    "key": "UUID",
}

_COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "usage": {**KINDS, "call_id": "key"},
    "linked": {
        "call_id": "key",
        "source": "text",
        "charge": "key",
        "rule": "text",
        "recorded_at": "time",
        "record": "json",
    },
    "revision": {"call_id": "key", "revision": "int", "recorded_at": "time", "reason": "text", "price": "json"},
    **{
        kind: {"id": "key", "time_ns": "time", "recorded_at": "time"}
        | {name: beside.OWN[kind].get(name, "text") for name in beside.COLUMNS[kind][3:]}
        for kind in beside.OWN
    },
}
"""Table → its columns and their kinds."""

TABLES: Final = tuple(_COLUMNS)


@dataclass(frozen=True, slots=True)
class Sums:
    """What one day holds."""

    calls: int
    cost: int
    list_cost: int
    input_tokens: int
    output_tokens: int


class Archive:
    """A directory of days."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._db = duckdb.connect()

    # --- writing --------------------------------------------------------------------------------------
    def write(self, reader: Reader, days: Sequence[date], form: Form, *, by_key: bool = True) -> None:
        """Write these days anew, from a store; `by_key` as in `Reader.lines`."""
        wanted = set(days)
        since, until = _start(min(wanted)), end_of(max(wanted))
        for table in TABLES:
            directory = self._directory / table
            directory.mkdir(parents=True, exist_ok=True)
            if table == "usage":
                lines = reader.lines(since, until, by_key=by_key)
            else:
                others = reader.others(table, since, until)
                lines = ((at, orjson.dumps(row, default=bytes.hex)) for at, row in others)
            written = self._lines(directory, lines, wanted)
            for day in wanted:
                target = directory / f"{day}.{form}"
                if day in written:
                    self._convert(table, written[day], target, form)
                else:
                    target.unlink(missing_ok=True)
                (directory / f"{day}.{_other(form)}").unlink(missing_ok=True)

    def _lines(self, directory: Path, lines: Iterable[tuple[int, bytes]], days: set[date]) -> dict[date, Path]:
        """A file of them each day."""
        found: dict[date, tuple[Path, IO[bytes]]] = {}
        with ExitStack() as files:
            for time_ns, line in lines:
                day = day_of(time_ns)
                if day not in days:
                    continue
                if day not in found:
                    path = directory / f"{day}.part"
                    found[day] = path, files.enter_context(path.open("wb"))
                found[day][1].write(line + b"\n")
        return {day: path for day, (path, _) in found.items()}

    def _convert(self, table: str, lines: Path, target: Path, form: Form) -> None:
        columns = _COLUMNS[table]
        read = ", ".join(f"'{name}': '{_TYPE['text' if kind == 'key' else kind]}'" for name, kind in columns.items())
        shown = ", ".join(f'CAST("{n}" AS UUID) AS "{n}"' if kind == "key" else f'"{n}"' for n, kind in columns.items())
        options = "FORMAT parquet, COMPRESSION zstd" if form == "parquet" else "FORMAT csv, HEADER"
        made = target.with_name(target.name + ".new")
        # Fields that this version's store does not name are not there to be lost: columns are told, not guessed.
        self._execute(
            f"COPY (SELECT {shown} FROM read_json({_text(lines)}, format = 'newline_delimited', columns = {{{read}}})) "
            f"TO {_text(made)} ({options})"
        )
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(target)
        lines.unlink()

    # --- reading --------------------------------------------------------------------------------------
    def days(self) -> list[date]:
        """Days that have calls, outcomes or cache hits, in order."""
        found = (path for table in ("usage", *beside.OWN) for path in (self._directory / table).glob("*.*"))
        return sorted(
            {
                date.fromisoformat(path.stem)
                for path in found
                if path.suffix in (".parquet", ".csv") and re.fullmatch(r"\d{4}-\d\d-\d\d", path.stem)
            }
        )

    def sums(self, day: date) -> Sums | None:
        """What a day's file holds; None when there is none."""
        if day not in self.days():
            return None
        (row,) = self._execute(
            "SELECT COUNT(*), COALESCE(SUM(cost), 0), COALESCE(SUM(list_cost), 0), COALESCE(SUM(input_tokens), 0), "
            f"COALESCE(SUM(output_tokens), 0) FROM {self._table('usage', day)}"
        )
        return Sums(*map(int, row))

    def report(self, query: Query) -> list[dict[str, Any]]:
        """One row a group, the highest cost first."""
        sql, parameters = dialects.report(DUCKDB, dialects.ledger(self._table("usage")), query)
        return dialects.rows_of(query, self._execute(sql, parameters))

    def beside(self, kind: Kind, query: Query) -> list[dict[str, Any]]:
        """One row a group of outcomes or cache hits: its dimensions, `events`, `successes`, `amount` in pico-USD."""
        sql, parameters = dialects.report_beside(DUCKDB, dialects.events(self._table(kind), kind), kind, query)
        return dialects.rows_of(query, self._execute(sql, parameters), dialects.BESIDE_MEASURES)

    def rows(self, table: str, day: date) -> Iterator[dict[str, Any]]:
        """The rows of a day as they were in the store: keys as bytes, what is unknown left out."""
        columns = _COLUMNS[table]
        keys = [name for name, kind in columns.items() if kind == "key"]
        order = ", ".join(list(columns)[:2])
        cursor = self._db.cursor().execute(f"SELECT * FROM {self._table(table, day)} ORDER BY {order}")
        while found := cursor.fetchmany(10_000):
            for values in found:
                row = {name: value for name, value in zip(columns, values, strict=True) if value is not None}
                for name in keys:
                    row[name] = row[name].bytes
                yield row

    def close(self) -> None:
        """Let go of the files."""
        self._db.close()

    def _table(self, table: str, day: date | None = None) -> str:
        """A table of all days or of one; columns that its files do not have are unknown."""
        found = [(form, self._directory / table / f"{day or '*'}.{form}") for form in ("parquet", "csv")]
        columns = _COLUMNS[table]
        parts: list[str] = []
        for form, path in found:
            if not any(path.parent.glob(path.name)):
                continue
            if form == "parquet":
                source = f"read_parquet({_text(path)}, union_by_name = true)"
            else:
                source = (
                    f"read_csv({_text(path)}, header = true, all_varchar = true, nullstr = '', "
                    "allow_quoted_nulls = false, union_by_name = true)"
                )
            present = {row[0] for row in self._execute(f"DESCRIBE SELECT * FROM {source}")}
            shown = [
                f'CAST("{name}" AS {_TYPE[kind]}) AS "{name}"'
                if name in present
                else f'NULL::{_TYPE[kind]} AS "{name}"'
                for name, kind in columns.items()
            ]
            parts.append(f"SELECT {', '.join(shown)} FROM {source}")
        if not parts:
            shown = [f'NULL::{_TYPE[kind]} AS "{name}"' for name, kind in columns.items()]
            parts.append(f"SELECT {', '.join(shown)} WHERE false")
        return f"({' UNION ALL '.join(parts)}) AS t"

    def _execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, dict(parameters or {})).fetchall()
        except duckdb.Error as error:
            raise StoreError(f"{self._directory}: {str(error).partition(chr(10))[0]}") from None


def open_archive(directory: Path) -> Archive:
    """An archive that is there; raises `StoreError`."""
    archive = Archive(directory)
    if not archive.days():
        archive.close()
        raise StoreError(f"{directory} has no exported days: `genai-meter store export --to {directory}` writes them")
    return archive


def day_of(time_ns: int) -> date:
    """The UTC day of an instant."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).date()


def end_of(day: date) -> int:
    """Where a UTC day ends, in Unix nanoseconds."""
    return _start(day) + DAY_NS


def _start(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000_000


def _other(form: Form) -> Form:
    return "csv" if form == "parquet" else "parquet"


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
