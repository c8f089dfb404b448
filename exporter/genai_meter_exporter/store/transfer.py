"""Between a store and an archive of days: what has changed is written again, what is there is not taken twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, Final

from genai_meter_exporter.cells import MEASURES
from genai_meter_exporter.normalise.record import Beside, Kind
from genai_meter_exporter.store.archive import Archive, Form, Sums, day_of, end_of
from genai_meter_exporter.store.base import Past, Query, Reader, Store, StoreError, Tally
from genai_meter_exporter.store.dialects import rows_of

_DAYS_AT_ONCE: Final = 31
"""Days that are read from the store together; each has a file open."""
_CALLS_AT_ONCE: Final = 2_000
"""Calls of one transaction."""

_KINDS: Final[tuple[Kind, ...]] = ("outcome", "cache_hit")

_NO_CALLS: Final = Sums(0, 0, 0, 0, 0)


def export_days(reader: Reader, archive: Archive, until: date, form: Form) -> Iterator[tuple[date, Sums]]:
    """Write each day before `until` whose files do not hold what the ledger's sums say; yields what was written.

    Raises `StoreError` when a file that was just written does not hold it either.
    """
    rolled_up = _rolled_up(reader)
    first, beside = day_of(reader.raw_since()), _beside_that_differ(reader, archive)
    wanted = {
        day: rolled_up.get(day, _NO_CALLS)
        for day in {*rolled_up, *beside}
        if first <= day < until and (day in beside or rolled_up[day] != archive.sums(day))
    }
    days = sorted(wanted)
    while days:
        # A gap is not read across.
        last = days[0] + timedelta(days=_DAYS_AT_ONCE)
        group, days = [day for day in days if day < last], [day for day in days if day >= last]
        archive.write(reader, group, form)
        if odd := [day for day in group if archive.sums(day) != wanted[day]]:
            # Ids that are not of their calls' time are found by looking at all.
            archive.write(reader, odd, form, by_key=False)
        for day in group:
            found = archive.sums(day)
            if found is None or found != wanted[day]:
                raise StoreError(
                    f"{day}: the ledger's sums say {wanted[day]}, its rows {found}: run it again when no calls of that "
                    "day arrive, then `genai-meter store check`"
                )
            yield day, found


def import_days(archive: Archive, store: Store, now_ns: int) -> Iterator[tuple[date, Tally]]:
    """Take over the calls and events that the (open) store does not have; yields what became of each day's calls."""
    for day in archive.days():
        tally = Tally()
        linked = _by(archive, "linked", day, "charge")
        revisions = _by(archive, "revision", day, "call_id")
        waiting: list[Past] = []
        for values in archive.rows("usage", day):
            key = values["call_id"]
            waiting.append(Past(values, linked[key], revisions[key]))
            if len(waiting) == _CALLS_AT_ONCE:
                _adopt(store, waiting, [], now_ns, tally)
                waiting = []
        events = [_event(kind, row) for kind in _KINDS for row in archive.rows(kind, day)]
        _adopt(store, waiting, events, now_ns, tally)
        yield day, tally


def report_over(archive: Archive, reader: Reader, query: Query) -> list[dict[str, Any]]:
    """Days that have a file from there, later ones from the store."""
    end = end_of(archive.days()[-1])
    rows: list[dict[str, Any]] = []
    if query.since_ns is None or query.since_ns < end:
        rows += archive.report(replace(query, until_ns=end if query.until_ns is None else min(query.until_ns, end)))
    if query.until_ns is None or query.until_ns > end:
        rows += reader.report(replace(query, since_ns=max(query.since_ns or 0, end)))
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        sums = groups.setdefault(tuple(row[name] for name in query.by), [0] * len(MEASURES))
        for index, name in enumerate(MEASURES):
            sums[index] += row[name]
    return rows_of(query, [(*group, *sums) for group, sums in groups.items()])


def _adopt(store: Store, past: list[Past], events: list[Beside], now_ns: int, tally: Tally) -> None:
    for found in store.adopt(past, events, now_ns).tallies:
        tally.accepted += found.accepted
        tally.duplicate += found.duplicate
    store.commit()


def _by(archive: Archive, table: str, day: date, column: str) -> Mapping[bytes, list[dict[str, Any]]]:
    found: defaultdict[bytes, list[dict[str, Any]]] = defaultdict(list)
    for row in archive.rows(table, day):
        found[row[column]].append(row)
    return found


def _event(kind: Kind, row: dict[str, Any]) -> Beside:
    return Beside(kind, row.pop("id"), row.pop("time_ns"), row)


def _beside_that_differ(reader: Reader, archive: Archive) -> set[date]:
    """Days whose outcomes or cache hits are not those of their files."""
    differ: set[date] = set()
    for kind in _KINDS:
        told, kept = (
            {
                (row["day"], row["events"], row["successes"], row["amount"])
                for row in source.beside(kind, Query(("day",)))
            }
            for source in (reader, archive)
        )
        differ |= {date.fromisoformat(day) for day, *_ in told - kept}
    return differ


def _rolled_up(reader: Reader) -> dict[date, Sums]:
    return {
        date.fromisoformat(row["day"]): Sums(
            row["calls"], row["cost"], row["list_cost"], row["input_tokens"], row["output_tokens"]
        )
        for row in reader.report(Query(("day",)))
    }
