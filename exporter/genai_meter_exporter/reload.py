"""Another configuration, taken while the exporter runs: on SIGHUP.

All of it is read and checked first, and what cannot be used changes nothing. Then it holds for all requests that are
read from then on: what was read before is committed as it was read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from genai_meter.pricing.engine import Resolver
from prometheus_client.core import GaugeMetricFamily, Metric

from genai_meter_exporter.access.gate import Gate, Keyring, keyring_of, rates_of
from genai_meter_exporter.anomalies.watch import Watcher
from genai_meter_exporter.attribution_map import AttributionMap
from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.charging import PriceError, read_prices, use_prices
from genai_meter_exporter.config import Config, ConfigError, lines_of, overlay
from genai_meter_exporter.digest.sender import Sender
from genai_meter_exporter.metrics import LiveFacts
from genai_meter_exporter.pipeline import Pipeline
from genai_meter_exporter.section import Section
from genai_meter_exporter.store.base import Reader, StoreError

logger: Final = logging.getLogger("genai_meter_exporter")

RELOADED: Final = ("prices", "attribution", "access", "budgets", "digest", "alerts", "anomalies")
"""Sections that hold without a restart."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a running exporter takes another configuration."""

    pipeline: Pipeline
    facts: LiveFacts
    gate: Gate
    budgets: Engine
    digests: Sender
    anomalies: Watcher
    read: Callable[[], Reader]
    """Opens the ledger for reading."""


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A configuration that is right, with what the files that it names hold."""

    config: Config
    prices: Resolver
    keyring: Keyring | None


class Reloader:
    """Takes one configuration after the other."""

    def __init__(self, config: Config, file: Path | None, parts: Parts) -> None:
        self.config = config
        """What holds."""
        self._file = file
        self._directory = file.parent if file else Path()
        self._parts = parts
        self._asked = asyncio.Event()
        self._successful = True
        self._succeeded = time.time()

    def ask(self) -> None:
        """Read it again, soon; asked twice meanwhile is asked once."""
        self._asked.set()

    async def run(self, read_again: Callable[[], Config]) -> None:
        """Whenever it is asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._successful = await self._reload(read_again)
            if self._successful:
                self._succeeded = time.time()

    def collect(self) -> Iterator[Metric]:
        """How the last time went. The start counts as one."""
        yield GaugeMetricFamily(
            "genai_meter_config_last_reload_successful",
            "Whether the configuration could be taken when it was last read.",
            float(self._successful),
        )
        yield GaugeMetricFamily(
            "genai_meter_config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken.",
            self._succeeded,
        )

    async def _reload(self, read_again: Callable[[], Config]) -> bool:
        parts = self._parts
        try:
            fresh = await asyncio.to_thread(self._check, read_again)
            changed = _changed(self.config, fresh.config)
            await parts.pipeline.exchange(partial(self._exchange, fresh, changed))
        except (ConfigError, StoreError) as error:
            logger.error("the configuration is kept as it was: %s", error)
            return False
        except Exception:
            logger.exception("the configuration is kept as it was")
            return False
        if fresh.keyring is None and parts.gate.keyring is not None:
            logger.warning("without access.tokens anybody who reaches the listeners may send and read")
        same = {"requests_per_second", "burst"}.isdisjoint(changed.get("access", ()))
        parts.gate.exchange(fresh.keyring, None if same else rates_of(fresh.config.access))
        if left := [f"{name}.{key}" for name, keys in changed.items() if name not in RELOADED for key in keys]:
            logger.warning("changed, and left as it was until a restart: %s", ", ".join(left))
        taken = [name for name in changed if name in RELOADED]
        logger.info(
            "the configuration was read again; changed: %s; price book %s",
            ", ".join(taken) or "nothing",
            parts.facts.book_id,
        )
        return True

    def _check(self, read_again: Callable[[], Config]) -> _Fresh:
        """Raises `ConfigError`, which names file, line and field."""
        config = read_again()
        try:
            prices = read_prices(overlay(config, self._file))
        except PriceError as error:
            told = self._place("prices", "overlay") if config.prices.overlay else ""
            raise ConfigError(f"{told}{error}") from None
        try:
            keyring = keyring_of(config.access, self._directory)
        except ConfigError as error:
            raise ConfigError(f"{self._place('access', 'tokens')}{error}") from None
        return _Fresh(config, prices, keyring)

    def _place(self, *field: str) -> str:
        assert self._file is not None
        (line,) = lines_of(self._file, [field])
        return f"{self._file}, line {line}: "

    def _exchange(self, fresh: _Fresh, changed: Mapping[str, Sequence[str]]) -> None:
        """While nothing is read, priced or committed. What may fail comes first."""
        config, parts = fresh.config, self._parts
        if "budgets" in changed:
            parts.budgets.exchange(config.budgets, parts.read, time.time())
        if fresh.prices.book_id != parts.facts.book_id:
            parts.facts.book_id, parts.facts.book_time = use_prices(fresh.prices)
        if "attribution" in changed:
            parts.pipeline.attribution = AttributionMap(config.attribution.rules)
        if "digest" in changed:
            parts.digests.exchange(config.digest)
        if "anomalies" in changed or "contracts" in changed.get("budgets", ()):
            parts.anomalies.exchange(config.anomalies, [contract.tenant for contract in config.budgets.contracts])
        left = {name: getattr(self.config, name) for name in Config.model_fields if name not in RELOADED}
        self.config = config.model_copy(update=left)


def _changed(before: Config, after: Config) -> dict[str, list[str]]:
    """Section → its keys that differ."""
    found: dict[str, list[str]] = {}
    for name in Config.model_fields:
        was: Section = getattr(before, name)
        is_now: Section = getattr(after, name)
        if keys := [key for key in type(was).model_fields if getattr(was, key) != getattr(is_now, key)]:
            found[name] = keys
    return found
