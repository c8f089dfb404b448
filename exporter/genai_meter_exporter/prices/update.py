"""Newer prices, on request only: compile, compare, activate when told to."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from genai_meter.pricing.book import Book

from genai_meter_exporter.prices import compiler


def compile_newer(data: Path | None, data_date: str | None) -> bytes:
    """A book from a genai-prices `data.json`, or from the installed genai-prices."""
    if data is not None:
        modified = datetime.fromtimestamp(data.stat().st_mtime, UTC).date().isoformat()
        providers, base = compiler.from_json(data, f"data-{data_date or modified}")
        return compiler.compile_book(providers, base, data_date or modified)
    providers, base, known_date = compiler.installed()
    date = data_date or known_date
    if not date:
        raise compiler.CompileError(f"no data date is known for {base}: give --data-date")
    return compiler.compile_book(providers, base, date)


def activate(book: Book, content: bytes, directory: Path) -> Path:
    """Keep the book under its hash and make it the current one of the directory; both in one step each."""
    directory.mkdir(parents=True, exist_ok=True)
    packed = compiler.pack(content)
    current = directory / "book.json.gz"
    for path in (directory / f"{book.sha256[:12]}.json.gz", current):
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(packed)
        temporary.replace(path)
    return current
