"""What was sent: for each digest, the start of the last period. One exporter at a time may look and send."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

FILE: Final = "digests.json"


class Turn(Protocol):
    """One digest, and nobody else sends it meanwhile."""

    last: int | None
    """Start of the last period that was sent (Unix seconds); None: never."""

    def sent(self, start: int) -> None:
        """Remember; raises OSError when that cannot be done."""
        ...


class Memory(Protocol):
    """Where it is remembered."""

    def turn(self, name: str) -> Any:
        """A context with a `Turn`; None inside it while another exporter has it. Raises OSError."""
        ...


class _Turn:
    def __init__(self, last: int | None, remember: Callable[[int], None]) -> None:
        self.last = last
        self._remember = remember

    def sent(self, start: int) -> None:
        """Remember."""
        self._remember(start)
        self.last = start


class FileMemory:
    """A file beside the ledger, which only one exporter opens."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE

    @contextmanager
    def turn(self, name: str) -> Generator[_Turn | None]:
        """That of the only exporter."""
        known = self._read()

        def remember(start: int) -> None:
            fresh = self._path.with_suffix(".new")
            with fresh.open("w", encoding="utf-8") as file:
                json.dump({**self._read(), name: start}, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)

        yield _Turn(known.get(name), remember)

    def _read(self) -> dict[str, int]:
        try:
            return json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise OSError(
                f"{self._path} is no JSON: {error}; remove it, and digests begin with the next period"
            ) from None


class PostgresMemory:
    """Rows of the ledger's table `fact`: who holds the lock on a digest's row has the turn."""

    def __init__(self, url: str) -> None:
        self._url = url

    @contextmanager
    def turn(self, name: str) -> Generator[_Turn | None]:
        """That of whoever is first; the row stays locked until the turn is over."""
        import psycopg

        key = f"digest:{name}"
        try:
            with psycopg.connect(self._url, connect_timeout=10, application_name="genai-meter digest") as connection:
                connection.execute("INSERT INTO fact VALUES (%s, -1) ON CONFLICT DO NOTHING", (key,))
                connection.commit()
                row = connection.execute(
                    "SELECT value FROM fact WHERE name = %s FOR UPDATE SKIP LOCKED", (key,)
                ).fetchone()

                def remember(start: int) -> None:
                    connection.execute("UPDATE fact SET value = %s WHERE name = %s", (start, key))
                    connection.commit()

                yield None if row is None else _Turn(None if row[0] < 0 else row[0], remember)
        except psycopg.Error as error:
            raise OSError(f"what was sent is not known: {error}") from error


def memory(url: str | None, directory: Path) -> Memory:
    """That of a ledger: in its database when several exporters share it, else beside its file."""
    return PostgresMemory(url) if url and url.startswith(("postgresql://", "postgres://")) else FileMemory(directory)
