"""A file of JSON lines beside the ledger: appended to, read once at the start, shortened then."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

logger: Final = logging.getLogger("genai_meter_exporter")

_KEPT_SECONDS: Final = 400 * 86400
_MOST_LINES: Final = 500_000


class Lines:
    """A line that cannot be written is logged, and nothing waits for it."""

    def __init__(
        self,
        directory: Path | None,
        file: str,
        wanted: Mapping[str, type],
        *,
        replaces: Callable[[Mapping[str, Any]], Hashable] = lambda _: None,
        read_only: bool = False,
    ) -> None:
        self._path = directory / file if directory is not None else None
        self._wanted = {"at": int, "kind": str, **wanted}
        """Members that every line has."""
        self._replaces = replaces
        """Of lines for which it says the same, only the last is kept; of those it says None, all."""
        self._read_only = read_only
        self._failed = False

    def read(self, now: float) -> list[dict[str, Any]]:
        """What is kept, oldest first; older, replaced and broken lines are dropped from the file."""
        if self._path is None or not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [entry for entry in map(self._parsed, lines) if entry is not None and entry["at"] > now - _KEPT_SECONDS]
        kept = self._without_replaced(kept)[-_MOST_LINES:]
        if len(kept) < len(lines) and not self._read_only:
            self._rewrite(kept)
        return kept

    def write(self, entry: Mapping[str, Any]) -> None:
        """One line more."""
        if self._path is None or self._read_only:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, separators=(",", ":")) + "\n")
            self._failed = False
        except OSError as error:
            if not self._failed:
                logger.warning("%s is not written: %s", self._path.name, error)
            self._failed = True

    def _without_replaced(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        keys = [self._replaces(entry) for entry in entries]
        last = {key: at for at, key in enumerate(keys) if key is not None}
        return [entry for at, entry in enumerate(entries) if last.get(keys[at], at) == at]

    def _rewrite(self, entries: Iterable[Mapping[str, Any]]) -> None:
        assert self._path is not None
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(
                "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries), encoding="utf-8"
            )
            fresh.replace(self._path)
        except OSError as error:
            logger.warning("%s is not shortened: %s", self._path.name, error)

    def _parsed(self, line: str) -> dict[str, Any] | None:
        try:
            entry = json.loads(line)
            return entry if all(isinstance(entry[name], kind) for name, kind in self._wanted.items()) else None
        except (ValueError, KeyError, TypeError):
            return None
