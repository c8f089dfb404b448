"""genai-prices' data + our facts → the price book. Needs genai-prices: for development and `prices update`."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Mapping
from datetime import date, time
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from genai_meter.pricing import book

from genai_meter_exporter.prices.marked import read
from genai_meter_exporter.prices.overlay_yaml import OverlayInvalid, check
from genai_meter_exporter.prices.shapes import sequence

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

FACTS: Final = Path(__file__).with_name("facts.yaml")

DATA_DATES: Final = {"0.2.3": "2026-11-10"}
"""Release → date of its data; genai-prices publishes none."""

UNITS: Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_text_mtok": "input_text",
    "output_text_mtok": "output_text",
    "cache_text_read_mtok": "cache_read_text",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
    "cache_audio_read_mtok": "cache_read_audio",
    "input_image_mtok": "input_image",
    "output_image_mtok": "output_image",
    "cache_image_read_mtok": "cache_read_image",
    "input_video_mtok": "input_video",
    "output_video_mtok": "output_video",
    "cache_video_read_mtok": "cache_read_video",
    "input_tool_mtok": "tool_prompt",
    "output_reasoning_mtok": "output_reasoning",
    "output_citation_mtok": "output_citation",
    "input_mchars": "chars_in",
    "input_text_messages_kcount": "messages_in",
    "audio_hours": "audio_seconds",
    "input_audio_hours": "audio_seconds_in",
    "output_audio_hours": "audio_seconds_out",
    "input_gpixels": "pixels_in",
    "input_document_kpages": "pages",
    "input_annotated_document_kpages": "annotated_pages",
    "rerank_searches_kcount": "rerank_search",
    "web_searches_kcount": "web_search",
    "social_searches_kcount": "social_search",
    "storage_searches_kcount": "file_search",
    "code_executions_kcount": "code_exec",
    "requests_kcount": "request",
}
"""genai-prices' price key → our unit. A key that is not here stops the build: dropping it would underprice."""

PLACES: Final = Decimal("1E-9")
"""Rates are kept to nine places: a few carry the noise of a division."""

_CONTEXT: Final = Context(prec=40, rounding=ROUND_HALF_EVEN)


class CompileError(Exception):
    """Base data or facts that this compiler must not turn into prices."""


class _Tables:
    """Rate tables, each kept once."""

    def __init__(self) -> None:
        self.tables: list[dict[str, Any]] = []
        self._indexes: dict[str, int] = {}

    def index(self, prices: ModelPrice, where: str) -> int:
        table = _table(prices, where)
        key = json.dumps(table, sort_keys=True)
        if key not in self._indexes:
            self._indexes[key] = len(self.tables)
            self.tables.append(table)
        return self._indexes[key]


def installed() -> tuple[list[Provider], str, str]:
    """Providers of the installed genai-prices, its name and version, and the date of its data."""
    from importlib.metadata import version

    from genai_prices.data import providers

    number = version("genai-prices")
    return list(providers), f"genai-prices {number}", DATA_DATES.get(number, "")


def from_json(path: Path, version: str) -> tuple[list[Provider], str]:
    """Providers of a genai-prices data.json (v2)."""
    from genai_prices.types import _providers_from_raw  # pyright: ignore[reportPrivateUsage]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return list(_providers_from_raw(json.loads(path.read_text(encoding="utf-8")))), f"genai-prices {version}"


def compile_book(providers: list[Provider], base: str, data_date: str, facts: Path = FACTS) -> bytes:
    """The book in its canonical form; the same input gives the same bytes."""
    tables = _Tables()
    compiled = {provider.id: _provider(provider, tables) for provider in providers}
    entries, catalogue = _facts(facts)
    whole: dict[str, Any] = {
        "schema": book.SCHEMA,
        "base": base,
        "data_date": data_date,
        "history_from": min(_start_dates(compiled), default=data_date),
        "facts": entries,
        "catalogue": catalogue,
        "rates": tables.tables,
        "providers": compiled,
    }
    return serialise(whole)


def serialise(document: Mapping[str, Any]) -> bytes:
    """The lines of a book (see `genai_meter.pricing.book.SCHEMA`)."""
    providers = document["providers"]
    head = {**document, "providers": sorted(providers)}
    rates = head.pop("rates")
    lines = (head, rates, *(providers[name] for name in sorted(providers)))
    return "\n".join(json.dumps(line, sort_keys=True, separators=(",", ":")) for line in lines).encode()


def document(content: bytes) -> dict[str, Any]:
    """What `serialise` was given."""
    head, rates, *tables = (json.loads(line) for line in content.split(b"\n"))
    return {**head, "rates": rates, "providers": dict(zip(head["providers"], tables, strict=True))}


def pack(content: bytes) -> bytes:
    """The book as shipped: gzip without a time stamp."""
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(content) + packer.flush()


def _provider(provider: Provider, tables: _Tables) -> dict[str, Any]:
    compiled: dict[str, Any] = {"models": [_model(provider.id, model, tables) for model in provider.models]}
    if provider.model_match is not None:
        compiled["match"] = _clause(provider.model_match, "")
    if provider.fallback_model_providers:
        compiled["fallback"] = list(provider.fallback_model_providers)
    if provider.pricing_urls:
        compiled["urls"] = list(provider.pricing_urls)
    return compiled


def _model(provider: str, model: ModelInfo, tables: _Tables) -> list[Any]:
    where = f"{provider}/{model.id}"
    prices = model.prices
    rows: Any = (
        [[_constraint(row.constraint), tables.index(row.prices, where)] for row in prices]
        if isinstance(prices, list)
        else tables.index(prices, where)
    )
    variants = [
        [dict(variant.when), _constraint(variant.constraint), tables.index(variant.prices, where)]
        for variant in model.price_variants or ()
    ]
    clause = _clause(model.match, model.id)
    return [model.id, clause, model.context_window, int(bool(model.deprecated)), rows, variants]


def _clause(clause: Any, model: str) -> Any:
    """A matcher as compact JSON; null when it is the model's own id and nothing else."""
    kind = type(clause).__name__
    if kind == "ClauseEquals":
        text = clause.equals.lower()
        return None if text == model else text
    if kind == "ClauseRegex":
        return ["/", clause.regex]
    if kind in ("ClauseOr", "ClauseAnd"):
        parts = clause.or_ if kind == "ClauseOr" else clause.and_
        return ["|" if kind == "ClauseOr" else "&", *(_clause(part, "") for part in parts)]
    attribute, operator = {
        "ClauseStartsWith": ("starts_with", "^"),
        "ClauseEndsWith": ("ends_with", "$"),
        "ClauseContains": ("contains", "~"),
    }[kind]
    return [operator, getattr(clause, attribute).lower()]


def _constraint(constraint: Any) -> Any:
    if constraint is None:
        return None
    start: Any = getattr(constraint, "start_date", None)
    if isinstance(start, date):
        return start.isoformat()
    times: list[time] = [constraint.start_time, constraint.end_time]
    if any(t.second or t.microsecond or (t.utcoffset() or 0) for t in times):
        raise CompileError(f"a daily window that is not in whole UTC minutes: {constraint!r}")
    return [t.strftime("%H:%M") for t in times]


def _table(prices: ModelPrice, where: str) -> dict[str, Any]:
    table: dict[str, Any] = {}
    stored: dict[str, Any] = vars(prices)
    for key, value in stored.items():
        if value is None:
            continue
        if key not in UNITS:
            raise CompileError(f"{where}: unknown price key {key!r}; leaving it out would underprice")
        if isinstance(value, Decimal):
            table[UNITS[key]] = _text(value)
        else:
            steps = [[tier.start, _text(tier.price)] for tier in value.tiers]
            table[UNITS[key]] = [_text(value.base), *steps]
    return table


def _text(value: Decimal) -> str:
    rounded = _CONTEXT.quantize(value, PLACES)
    return f"{rounded.normalize(_CONTEXT):f}"


def _start_dates(providers: Mapping[str, Any]) -> list[str]:
    models: list[list[Any]] = [model for provider in providers.values() for model in provider["models"]]
    rows: list[list[Any]] = [row for model in models for row in sequence(model[4]) or ()]
    return [row[0] for row in rows if isinstance(row[0], str)]


def _facts(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    marked = read(path.read_text(encoding="utf-8"), path.name)
    entries = check(marked, also_allowed=frozenset({"catalogue"}))
    for index, entry in enumerate(entries):
        if not str(entry.get("source", "")).startswith("https://"):
            marked.problem(("entries", index), "a fact needs the URL of its source")
    if marked.problems:
        raise OverlayInvalid(marked.problems)
    catalogue: list[dict[str, Any]] = marked.data.get("catalogue") or []
    return entries, {f"{item['provider']}/{item['model']}": _limits(item) for item in catalogue}


def _limits(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in ("provider", "model")}
