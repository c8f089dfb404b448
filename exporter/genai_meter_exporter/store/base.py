"""What every engine must do: write and commit batches, and answer reports."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from genai_meter_exporter.normalise.record import Batch, Beside, Kind
from genai_meter_exporter.series import Deltas, SeriesKey


class StoreError(Exception):
    """The store cannot do it now; the message says what to do about it."""


def no_column(source: str, name: str, columns: Iterable[str]) -> StoreError:
    """A report asks for a column that there is not; the closest one is named, or all."""
    known = sorted(columns)
    closest = difflib.get_close_matches(name, known, 1)
    there = f"is {closest[0]!r} meant?" if closest else f"it has {', '.join(known)}"
    return StoreError(f"{source} has no column {name!r}: {there}")


@dataclass(slots=True)
class Tally:
    """What became of the records of one batch."""

    accepted: int = 0
    duplicate: int = 0
    linked: int = 0
    quarantined: int = 0


@dataclass(slots=True)
class Written:
    """An open transaction's effect, to be made visible when it is committed."""

    tallies: list[Tally]
    """One a batch, in order."""
    deltas: Deltas
    """What the counters gain."""
    restored: Restored | None = None
    """What they were before, where a lost connection has left them in doubt."""


@dataclass(slots=True)
class Restored:
    """What the counters were when the store was last committed."""

    values: dict[SeriesKey, int] = field(default_factory=dict[SeriesKey, int])
    shown: set[SeriesKey] = field(default_factory=set[SeriesKey])
    """Series that a scrape has had at zero."""
    last_events: dict[tuple[str, str, str], int] = field(default_factory=dict[tuple[str, str, str], int])
    """(team, environment, service) → Unix nanoseconds of the latest call."""


@dataclass(frozen=True, slots=True)
class Price:
    """The price columns of a call."""

    cost_status: str
    list_cost: int | None
    """Pico-USD; None when unpriced."""
    cost: int | None
    cost_lines: str | None
    """JSON."""
    cost_reasons: str | None
    """JSON."""
    book_id: str | None


@dataclass(frozen=True, slots=True)
class Revision:
    """Another price for a call, asked for by another process; the writer carries it out."""

    call_id: bytes
    price: Price
    reason: str


class Kept(NamedTuple):
    """A record that could not be read."""

    digest: bytes
    signal: str
    reason: str
    producer: str
    record: str
    """JSON: its metadata, as it came."""
    first_seen: int
    """Unix nanoseconds."""
    last_seen: int
    times: int
    """How often it came."""


@dataclass(frozen=True, slots=True)
class Query:
    """One report: sums by dimensions over a span of time."""

    by: tuple[str, ...]
    since_ns: int | None = None
    """Inclusive, by the start of the call."""
    until_ns: int | None = None
    """Exclusive."""
    where: tuple[tuple[str, str], ...] = ()
    """(column, value); the empty value means unknown."""


@dataclass(slots=True)
class Past:
    """A call as it was in another store."""

    values: dict[str, Any]
    """Its columns; what is unknown is absent."""
    linked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Rows of the table `linked`."""
    revisions: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Rows of the table `revision`."""


class Reader(Protocol):
    """Read-only view, also from another process while the exporter writes."""

    def get(self, call_id: bytes) -> Mapping[str, Any] | None:
        """The ledger row of a call, by its own id or by that of a record linked to it."""
        ...

    def revisions(self, call_id: bytes) -> list[Mapping[str, Any]]:
        """What the price of a call was, oldest first: `revision`, `recorded_at`, `reason`, `price` (JSON)."""
        ...

    def calls(self, query: Query) -> Iterator[Mapping[str, Any]]:
        """The rows of a span of time, in order; `by` does not matter."""
        ...

    def lines(self, since_ns: int, until_ns: int, *, by_key: bool) -> Iterator[tuple[int, bytes]]:
        """The calls of a span of time: when they started, and what is known of them as JSON, the key in hex.

        `by_key`: only those whose key is of that time too, to within an hour, which is quicker.
        """
        ...

    def others(self, table: str, since_ns: int, until_ns: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Rows of `linked`, `revision`, `outcome` or `cache_hit`, each with its time: that of its call, or its own."""
        ...

    def pending(self) -> int:
        """Revisions that have been asked for and not been carried out."""
        ...

    def raw_since(self) -> int:
        """Calls that started before have been removed; 0: none has."""
        ...

    def totals(self) -> tuple[int, int]:
        """Calls and cost (pico-USD) of the whole ledger, summed from its rows."""
        ...

    def counted(self) -> tuple[int, int]:
        """The same by the counters of all exporters: charges less withdrawals and credits."""
        ...

    def report(self, query: Query) -> list[dict[str, Any]]:
        """One row a group: its dimensions and `cells.MEASURES`, money in pico-USD."""
        ...

    def beside(self, kind: Kind, query: Query) -> list[dict[str, Any]]:
        """One row a group of outcomes or cache hits: its dimensions, `events`, `successes`, `amount` in pico-USD."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


class Store(Protocol):
    """The one writer. Used by one thread."""

    syncs: int
    """Commits that were synced to disk before they returned."""
    alone: bool
    """Nobody else writes these rows: what the calendar asks for on them is this exporter's, whoever leads."""
    embedded: bool
    """Writing is this process's own work, not a server's."""

    def open(self) -> Restored:
        """Lock, migrate, rebuild the linking index; returns the counters."""
        ...

    def write(self, batches: Sequence[Batch], shown: Sequence[SeriesKey], now_ns: int) -> Written:
        """Write batches in a transaction that stays open; raises `StoreError` and leaves nothing behind."""
        ...

    def revise(self, call_id: bytes, price: Price, reason: str, now_ns: int) -> Written:
        """Give a call another price in a transaction that stays open; the old one is kept as a revision.

        Raises `StoreError`, also when there is no such call, and leaves nothing behind.
        """
        ...

    def revise_pending(self, limit: int, now_ns: int) -> Written | None:
        """Carry out revisions that were asked for, in a transaction that stays open; None when there are none.

        Raises `StoreError` and leaves nothing behind.
        """
        ...

    def quarantine_pending(self, limit: int) -> Sequence[Kept]:
        """Records of the quarantine that somebody has asked to be read again; raises `StoreError`."""
        ...

    def adopt(self, past: Sequence[Past], events: Sequence[Beside], now_ns: int) -> Written:
        """Take over calls and events of another store as they are, in a transaction that stays open.

        Raises `StoreError` and leaves nothing behind.
        """
        ...

    def learn(self, parents: Iterable[tuple[bytes, bytes]]) -> None:
        """The way up from spans that are no usage (trace id + span id, parent span id); kept in memory only."""
        ...

    def commit(self) -> None:
        """Make the open transaction durable; raises `StoreError` and leaves nothing behind."""
        ...

    def probe(self, size: int = 0) -> None:
        """Give the open transaction so many bytes to commit; raises `StoreError` and leaves nothing behind."""
        ...

    def leads(self) -> bool:
        """This exporter does the calendar's work on the ledger: of several, one at a time."""
        ...

    def retire(self, before_ns: int, limit: int) -> int:
        """Remove calls that started before, `limit` at most, and commit; their sums stay. Returns how many they were.

        What arrives for that time from now on goes to the quarantine: whether it was charged is not known any more.
        """
        ...

    def top(self, dimension: str, limit: int) -> list[str]:
        """The values of a dimension with the highest cost, best first."""
        ...

    def rows(self, since: bytes) -> Iterator[Mapping[str, Any]]:
        """Ledger rows from a key on, in order."""
        ...

    def close(self) -> None:
        """Checkpoint and unlock."""
        ...
