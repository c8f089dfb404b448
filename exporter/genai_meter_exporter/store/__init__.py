"""Where usage is kept. One file per engine behind the small protocol of `base`."""

from __future__ import annotations

from pathlib import Path

from genai_meter_exporter.store.base import Query, Reader, StoreError

__all__ = ["Query", "Reader", "StoreError", "open_readonly"]


def open_readonly(path: str | Path) -> Reader:
    """Read a store, also while an exporter writes it; raises `StoreError` when there is none."""
    from genai_meter_exporter.store.reader import SqliteReader

    return SqliteReader(path)
