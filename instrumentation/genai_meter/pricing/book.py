"""The price book: immutable, identified by the hash of its content, read once when first needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from genai_meter.pricing import names

SCHEMA: Final = "genai-meter-book/2"
"""Lines of JSON: the head with the names of the providers, all rate tables, then the table of each provider."""
SHIPPED: Final = Path(__file__).with_name("book.json.gz")

Clause: TypeAlias = Any
"""A model matcher as JSON: text (equal to it), or a list of an operator and its arguments:
`^` starts with, `$` ends with, `~` contains, `/` regular expression, `|` any of, `&` all of."""

Constraint: TypeAlias = Any
"""When a row holds, as JSON: null (always), an ISO date (from it on, UTC), or two times of day (UTC)."""


class BookError(Exception):
    """A book that cannot be used: not readable, not of this schema, or not what its hash says."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model of the book."""

    provider: str
    """The provider whose table the row is in; not the asked one when that resells another's models."""
    model: str
    context_window: int | None
    deprecated: bool
    prices: tuple[tuple[Constraint, int], ...]
    """(constraint, index of a rate table), in order; the last one that holds wins, the first when none does."""
    variants: tuple[tuple[dict[str, str], Constraint, int], ...]
    """(context, constraint, index of a rate table); for each unit the first one that holds wins."""
    own: bool
    """False when found in the table of a provider that the asked one falls back to."""


class _Tables(Mapping[str, dict[str, Any]]):
    """Provider → its table, parsed when it is first asked for: a program prices models of one or two."""

    def __init__(self, names: list[str], lines: list[bytes]) -> None:
        self._lines = dict(zip(names, lines, strict=True))
        self._parsed: dict[str, dict[str, Any]] = {}

    def __getitem__(self, name: str) -> dict[str, Any]:
        found = self._parsed.get(name)
        if found is None:
            found = self._parsed[name] = _parsed(self._lines[name])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, name: object) -> bool:
        return name in self._lines


def _parsed(line: bytes) -> Any:
    import json

    try:
        return json.loads(line)
    except ValueError as error:
        raise BookError(f"a table of the price book is broken: {error}") from error


class Book:
    """Rates by provider and model, with the small facts layer compiled into it."""

    def __init__(self, content: bytes) -> None:
        import hashlib
        import json

        head, *lines = content.split(b"\n")
        try:
            document: dict[str, Any] = json.loads(head)
            self.schema: str = document["schema"]
        except (ValueError, KeyError, TypeError) as error:
            raise BookError(f"no price book: {error}") from error
        if self.schema != SCHEMA:
            raise BookError(f"a book of schema {self.schema!r}; this version reads {SCHEMA!r}")
        if len(lines) != len(document["providers"]) + 1:
            raise BookError(f"a book of {len(lines)} tables that announces {len(document['providers']) + 1}")
        self.sha256: str = hashlib.sha256(content).hexdigest()
        self.base: str = document["base"]
        """Package and version the base rates come from."""
        self.data_date: str = document["data_date"]
        """When the base rates were last known to be right, as an ISO date."""
        self.history_from: str = document["history_from"]
        """Before this ISO date the book knows no change of price."""
        self.facts: list[dict[str, Any]] = document["facts"]
        """Compiled overlay entries of the shipped facts layer."""
        self.providers: Mapping[str, dict[str, Any]] = _Tables(document["providers"], lines[1:])
        self.catalogue: dict[str, dict[str, Any]] = document["catalogue"]
        """`provider/model` → `max_output_tokens`, `deprecated_on`, `source`, where known."""
        self.book_id: str = f"pb1:{self.base.replace(' ', '-')}:{self.sha256[:12]}"

        self._rates = lines[0]

    @cached_property
    def rates(self) -> list[dict[str, Any]]:
        """Rate tables: unit → text, or [text, [above input tokens, text] …] with tiers."""
        return _parsed(self._rates)

    def sources(self, provider: str) -> tuple[str, ...]:
        """Pages the rates of a provider were read from."""
        return tuple(self.providers.get(provider, {}).get("urls", ()))

    def rows(self, provider: str) -> Iterator[Row]:
        """Every model of a provider's own table."""
        for raw in self.providers.get(provider, {}).get("models", ()):
            yield _row(provider, raw, own=True)

    def find(self, provider: str, model: str) -> Row | None:
        """The row that a spelling of a model matches, in the provider's table or those it falls back to."""
        table = self.providers.get(provider)
        if table is None:
            return None
        for source in (provider, *table.get("fallback", ())):
            for raw in self.providers[source]["models"]:
                if matches(raw[1] if raw[1] is not None else raw[0], model):
                    return _row(source, raw, own=source == provider)
        return None

    def provider_of(self, model: str) -> str | None:
        """The provider whose naming a model follows; only for producers that name none."""
        for provider, table in self.providers.items():
            clause = table.get("match")
            if clause is not None and matches(clause, model):
                return provider
        return None


def matches(clause: Clause, text: str) -> bool:
    """Whether a matcher accepts a lower-case model name."""
    if type(clause) is str:
        return text == clause
    operator, *arguments = clause
    if operator == "|":
        return any(matches(argument, text) for argument in arguments)
    if operator == "&":
        return all(matches(argument, text) for argument in arguments)
    value: str = arguments[0]
    if operator == "^":
        return text.startswith(value)
    if operator == "~":
        return value in text
    if operator == "$":
        return text.endswith(value)
    return _pattern(value).search(text) is not None


@lru_cache(maxsize=256)
def _pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression)


def _row(provider: str, raw: list[Any], *, own: bool) -> Row:
    model, _, context_window, deprecated, prices, variants = raw
    rows = ((None, prices),) if isinstance(prices, int) else tuple((c, i) for c, i in prices)
    return Row(
        provider, model, context_window, bool(deprecated), rows, tuple((w, c, i) for w, c, i in variants or ()), own
    )


def read_book(path: Path = SHIPPED) -> Book:
    """Read a book file (gzip or plain JSON); BookError when it cannot be used."""
    import zlib

    try:
        data = _shipped() if path is SHIPPED else path.read_bytes()
        content = zlib.decompress(data, wbits=31) if data[:2] == b"\x1f\x8b" else data
    except (OSError, zlib.error) as error:
        raise BookError(f"cannot read {path}: {error}") from error
    return Book(content)


def _shipped() -> bytes:
    # Whoever has loaded this module: the package may be in a zip archive or a frozen program.
    get_data: Callable[[str], bytes] | None = getattr(__spec__ and __spec__.loader, "get_data", None)
    return SHIPPED.read_bytes() if get_data is None else get_data(str(SHIPPED))


def locate(book: Book, provider: str, model: str) -> tuple[Row, str | None] | None:
    """The row for any spelling of a model, and the reason why the match is not certain."""
    for candidate in names.model_candidates(provider, model):
        row = book.find(provider, candidate.name)
        if row is not None:
            return row, candidate.reason
    return None
