"""Which recorded exchanges producers are shown: a few of every kind, the short ones first."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.traffic.judge import METERED
from tests.traffic.recordings import Exchange, fields, files, load

EACH: Final = 3
"""So many of one kind, of different models where there are."""

_FEATURES: Final = (
    *("cache_read", "cache_write", "cache_write_5m", "cache_write_1h", "reasoning", "audio_in", "audio_out"),
    *("image_in", "image_out", "tool_use_input", "web_search_requests", "search_units", "audio_seconds", "iterations"),
)
"""Fields of the truth that make a kind of their own when they are more than nothing."""
_ALSO: Final = ("/interactions", "/rerank", "/ocr")
"""Calls that the files have under other operations."""
_SEVERAL: Final = "/agents/"
"""One request, any number of model calls behind it."""


class Recorded:
    """The exchanges of a sample, and the lines of the traffic files that they come from."""

    def __init__(self, place: Path) -> None:
        found = files(place)
        self.exchanges = {exchange.id: exchange for exchange in spread(load(found))}
        self._lines = {name: line for name, line in _lines(found) if name in self.exchanges}

    def of(self, providers: Iterable[str]) -> list[Exchange]:
        """Those of some providers."""
        wanted = frozenset(providers)
        return [exchange for exchange in self.exchanges.values() if exchange.provider in wanted]

    def models(self, name: str) -> tuple[str | None, str | None]:
        """The model that was asked for, and the one that served."""
        record: dict[str, Any] = json.loads(self._lines[name])
        return record.get("model_request"), record.get("model_response")

    def write(self, exchanges: Iterable[Exchange], file: Path) -> None:
        """A traffic file of these."""
        file.write_text("".join(self._lines[exchange.id] for exchange in exchanges), encoding="utf-8")


def spread(exchanges: Iterable[Exchange]) -> list[Exchange]:
    """A few of each kind: provider, operation, form, status, tier, and what the usage tells."""
    kinds: defaultdict[tuple[Any, ...], list[Exchange]] = defaultdict(list)
    for exchange in exchanges:
        if not exchange.bare_path.startswith(_SEVERAL):
            kinds[kind(exchange)].append(exchange)
    return [exchange for found in kinds.values() for exchange in _few(found)]


def kind(exchange: Exchange) -> tuple[Any, ...]:
    """What makes one exchange another case than the next."""
    truth: Mapping[str, Any] = exchange.truth or {}
    request = fields(exchange.request)
    told = tuple(name for name in _FEATURES if truth.get(name))
    form = exchange.streaming, exchange.status, bool(request.get("tools")), bool(truth)
    return exchange.provider, exchange.detail, exchange.operation, exchange.host, form, truth.get("service_tier"), told


def is_metered(exchange: Exchange) -> bool:
    """A call that is charged at once; a background response is charged when it is read."""
    if exchange.bare_path.endswith(_ALSO):
        return True
    return exchange.operation in METERED and (exchange.streaming or not fields(exchange.request).get("background"))


def _few(exchanges: list[Exchange]) -> list[Exchange]:
    by_size = sorted(exchanges, key=lambda exchange: (len(exchange.body), exchange.id))
    firsts = {fields(exchange.request).get("model"): exchange for exchange in reversed(by_size)}
    chosen = sorted(firsts.values(), key=lambda exchange: (len(exchange.body), exchange.id))[:EACH]
    return [*chosen, *(exchange for exchange in by_size if exchange not in chosen)][:EACH]


def _lines(found: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for path in found:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.strip():
                    yield json.loads(line)["id"], line if line.endswith("\n") else line + "\n"
