"""Many rows with one statement, in SQLite: what is equal in all of them is bound once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Literal

_ROWS: Final = 16
"""Of one statement: a row of `call` has 28 values, SQLite's limit of parameters has been 999."""


def insert(
    db: sqlite3.Connection,
    table: str,
    names: Sequence[str],
    columns: Sequence[Sequence[Any]],
    *,
    often_equal: frozenset[str] = frozenset(),
    conflict: Literal["FAIL", "IGNORE"] = "FAIL",
) -> None:
    """Insert rows, a column at a time, in their order. When it fails, the transaction has to be rolled back.

    `often_equal`: columns to look at; each set of those that are equal is a statement of its own, and has to be
    prepared.
    """
    # Not ABORT: SQLite would keep a copy of every page, to undo a statement of several rows alone.
    into = f"INSERT OR {conflict} INTO {table} ({', '.join(names)}) VALUES"
    count = len(columns[0])
    whole = count - count % _ROWS
    if whole:
        same = tuple(at for at, name in enumerate(names) if name in often_equal and equal(columns[at]))
        first = tuple(columns[at][0] for at in same)
        varying = [column[:whole] for at, column in enumerate(columns) if at not in same]
        rows = chain.from_iterable(zip(*varying, strict=True))
        several = zip(*[rows] * (len(varying) * _ROWS), strict=True)
        db.executemany(_statement(into, len(columns), same), map(first.__add__, several))
    if whole < count:
        rest = zip(*(column[whole:] for column in columns), strict=True)
        db.executemany(f"{into} ({', '.join('?' * len(columns))})", rest)


def equal(column: Sequence[Any]) -> bool:
    """All values are equal."""
    return column[0] == column[-1] and column.count(column[0]) == len(column)


@lru_cache(200)
def _statement(into: str, width: int, same: tuple[int, ...]) -> str:
    """Parameters: the values that are the same, then the others of each row."""
    varying = [at for at in range(width) if at not in same]
    rows: list[str] = []
    for row in range(_ROWS):
        start = len(same) + row * len(varying) + 1
        number = {at: index + 1 for index, at in enumerate(same)} | {at: start + i for i, at in enumerate(varying)}
        rows.append(f"({', '.join(f'?{number[at]}' for at in range(width))})")
    return f"{into} {', '.join(rows)}"
