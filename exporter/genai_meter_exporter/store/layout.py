"""How a call lies in the ledger: the columns that reports and linking need, the dimensions once, the rest as JSON.

A row of a hundred columns costs four times as much to insert. The view `usage` shows all columns again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, Final

import orjson
from genai_meter.schema import FIELDS

from genai_meter_exporter.cells import DIMENSIONS
from genai_meter_exporter.columns import Columns
from genai_meter_exporter.store.together import equal

KINDS: Final[Mapping[str, str]] = {f.name: f.kind for f in FIELDS} | {"parent_span_id": "text", "recorded_at": "time"}
"""Column → kind. Beside the fields of the event: the span above, and when the ledger learned of the call."""

COLUMNS: Final = tuple(KINDS)
"""Columns of the view `usage`."""

OWN: Final = (
    "call_id",
    "start",
    "end",
    "recorded_at",
    "source",
    "source_rank",
    "revision",
    "links",
    "trace_id",
    "span_id",
    "response_id",
    "request_model",
    "model",
    "attempt_count",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage",
    "cost_status",
    "cost_reasons",
    "list_cost",
    "cost",
    "cost_lines",
    "book_id",
)
"""Columns of the table `call`; it has `cell` and `more` beside them."""

OWN_VALUES: Final = OWN[1:]
"""Without the key."""

SHARED: Final = tuple(name for name in DIMENSIONS if name != "model")
"""Columns that are read from the table `cell`; the model of a cell may be the requested one."""

MORE: Final = frozenset(COLUMNS) - frozenset(OWN) - frozenset(SHARED)
"""Columns that are members of the JSON object `more`."""

STORED: Final = (*OWN, "cell", "more")
"""Columns of the table `call`."""


def cell_id(dimensions: tuple[str, ...]) -> int:
    """The key of a set of dimensions: 63 bits of its hash, equal in every store and exporter."""
    text = "\x1f".join(dimensions).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def unpack(row: Any, first: Mapping[str, Any]) -> bytes:
    """A row of the table `call` with its cell's columns as one line of JSON: what is known, `first` first."""
    values = {**first}
    for name in OWN_VALUES:
        if (value := row[name]) is not None:
            values[name] = value
    for name in SHARED:
        # A dimension that is unknown is the empty text in its cell.
        if value := row[name]:
            values[name] = value
    more: str = row["more"]
    return orjson.dumps(values)[:-1] + (b"," + more[1:].encode() if len(more) > 2 else b"}")


def packed(calls: Columns, cells: Sequence[int]) -> list[Sequence[Any]]:
    """Columns of the table `call`, in the order of `STORED`; `cells` are the keys of the dimensions."""
    return [*map(calls.get, OWN), cells, _more(calls)]


def _more(calls: Columns) -> Sequence[str]:
    """The column `more`. What is unknown may be null in it: the view makes no difference."""
    told = {name: column for name, column in calls.told.items() if name in MORE}
    same = {name: column[0] for name, column in told.items() if equal(column)}
    head = orjson.dumps(same)[:-1].decode()
    names = told.keys() - same.keys()
    if not names:
        return (head + "}",) * calls.count
    # All in C: twenty names, thousands of calls.
    objects = map(dict, map(zip, repeat(names), zip(*map(told.__getitem__, names), strict=True)))
    texts = list(map(str, map(orjson.dumps, objects), repeat("utf-8")))
    return [f"{head},{text[1:]}" for text in texts] if same else texts
