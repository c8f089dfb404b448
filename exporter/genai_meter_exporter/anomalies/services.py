"""What changed within a service: models, their mix, caches, retries. Shares against the week before, and against the
same 24 hours of last week: weekends and weekly batches are no change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from genai_meter_exporter.anomalies.evidence import Finding, largest, named, percent, short, usd
from genai_meter_exporter.anomalies.model import Anomalies
from genai_meter_exporter.anomalies.sums import DAY, Key, Reports, Span, Sums, Window, merged, read, total
from genai_meter_exporter.anomalies.threshold import Threshold

SERVICE: Final = ("team", "environment", "service")
_BY: Final = (*SERVICE, "feature", "model")
_HISTORY_DAYS: Final = 28
"""A model that a service did not use for so long is new."""
_CACHE_FLOOR: Final = 0.1
"""A lower hit ratio has nothing to lose."""
_RETRIES_KNOWN: Final = 0.01
"""Retries a call below it are not told apart."""

Groups = Mapping[Key, Sums]
"""(feature, model) → sums."""


class Service:
    """One service in the spans that are compared."""

    def __init__(self, key: Key, after: Groups, before: Groups, week_ago: Groups, known: frozenset[str]) -> None:
        self.labels = tuple(zip(SERVICE, key, strict=True))
        self.after = after
        self.before = before
        self.now = total(after)
        self.was = total(before)
        self.week_ago = week_ago
        self.ago = total(week_ago)
        self.known = known
        """Models of the last four weeks."""


def find(reader: Reports, window: Window, settings: Anomalies, threshold: Threshold) -> Iterator[Finding]:
    """All of them, service by service; those with too few calls on either side say nothing."""
    after = merged(read(reader, _BY, window.today), len(SERVICE))
    before = merged(read(reader, _BY, window.before), len(SERVICE))
    week_ago = merged(read(reader, _BY, window.week_ago), len(SERVICE))
    history = Span(window.days.until - _HISTORY_DAYS * DAY, window.today.since)
    known = merged(read(reader, (*SERVICE, "model"), history), len(SERVICE))
    for key, group in after.items():
        models = frozenset(model for (model,) in known.get(key, {}))
        service = Service(key, group, before.get(key, {}), week_ago.get(key, {}), models)
        if not key[-1] or min(service.now.calls, service.was.calls) < settings.min_calls:
            continue
        yield from _new_models(service, settings, threshold)
        for detect in (_mix, _cache, _retries):
            if finding := detect(service, settings, threshold):
                yield finding


def _new_models(service: Service, settings: Anomalies, threshold: Threshold) -> Iterator[Finding]:
    for model, sums in _by_model(service.after).items():
        labels = (*service.labels, ("model", model))
        share = sums.calls / service.now.calls
        if model and model not in service.known and share >= threshold("new_model", labels, settings.new_model_share):
            mine = {key: sums for key, sums in service.after.items() if key[1] == model}
            found = largest(mine, {}, lambda now, _: now.calls)
            yield Finding(
                "new_model",
                labels,
                share,
                f"{sums.calls:,} calls, {percent(sums.calls, service.now.calls)} of the service's, {usd(sums.cost)}; "
                f"none in the {_HISTORY_DAYS} days before",
                short(f"{named(found[0])}: {found[1].calls:,} calls") if found else "",
            )


def _mix(service: Service, settings: Anomalies, threshold: Threshold) -> Finding | None:
    after, before = _by_model(service.after), _by_model(service.before)
    shift = _shift(after, service.now, before, service.was)
    if service.ago.calls >= settings.min_calls:
        shift = min(shift, _shift(after, service.now, _by_model(service.week_ago), service.ago))
    if shift < threshold("model_mix", service.labels, settings.mix_shift):
        return None
    gains = {
        model: sums.calls / service.now.calls - before[model].calls / service.was.calls
        for model, sums in after.items()
        if model in before
    }
    model = max(gains, key=lambda name: gains[name])
    return Finding(
        "model_mix",
        service.labels,
        shift,
        f"{percent(shift, 1)} of the calls go to other models; a call costs "
        f"{usd(service.was.cost / service.was.calls)} → {usd(service.now.cost / service.now.calls)}",
        short(
            f"{model or '(unknown)'}: {percent(before[model].calls, service.was.calls)} → "
            f"{percent(after[model].calls, service.now.calls)} of the calls"
        ),
    )


def _shift(after: Mapping[str, Sums], now: Sums, before: Mapping[str, Sums], was: Sums) -> float:
    """What models that were there before have gained; a new one is an anomaly of its own."""
    gains = (
        sums.calls / now.calls - before[model].calls / was.calls for model, sums in after.items() if model in before
    )
    return sum(gain for gain in gains if gain > 0)


def _cache(service: Service, settings: Anomalies, threshold: Threshold) -> Finding | None:
    usual = _share(service.was, "cache_read_tokens")
    if service.ago.calls >= settings.min_calls:
        usual = min(usual, _share(service.ago, "cache_read_tokens"))
    share = _share(service.now, "cache_read_tokens")
    # Hysteresis in the other direction: the ratio falls.
    limit = 1 - threshold("cache_drop", service.labels, 1 - settings.cache_drop_ratio)
    if usual < _CACHE_FLOOR or share >= limit * usual:
        return None

    def lost(now: Sums, was: Sums) -> float:
        return _share(was, "cache_read_tokens") * now.input_tokens - now.cache_read_tokens

    now, was = service.now, service.was
    return Finding(
        "cache_drop",
        service.labels,
        share / usual,
        f"{percent(was.cache_read_tokens, was.input_tokens)} → {percent(now.cache_read_tokens, now.input_tokens)} "
        "of the input tokens from prompt caches",
        _most(service, lost, "cache_read_tokens", "input_tokens", "from the cache"),
    )


def _retries(service: Service, settings: Anomalies, threshold: Threshold) -> Finding | None:
    now, was = service.now, service.was
    usual = max(was.retries / was.calls, _RETRIES_KNOWN)
    if service.ago.calls >= settings.min_calls:
        usual = max(usual, service.ago.retries / service.ago.calls)
    rate = now.retries / now.calls
    if rate < settings.retries_floor or rate < threshold("retries_up", service.labels, settings.retries_ratio) * usual:
        return None

    def added(now: Sums, was: Sums) -> float:
        return now.retries - (now.calls * was.retries / was.calls if was.calls else 0.0)

    return Finding(
        "retries_up",
        service.labels,
        rate / usual,
        f"retries {percent(was.retries, was.calls)} → {percent(now.retries, now.calls)} of the calls",
        _most(service, added, "retries", "calls", "retries"),
    )


def _most(service: Service, grown: Callable[[Sums, Sums], float], part: str, whole: str, what: str) -> str:
    """The feature and model that contributes most, with its share before and after."""
    found = largest(service.after, service.before, grown)
    if found is None:
        return ""
    key, now, was = found
    shares = [percent(getattr(sums, part), getattr(sums, whole)) for sums in (was, now)]
    return short(f"{named(key)}, {what} {shares[0]} → {shares[1]}")


def _share(sums: Sums, part: str) -> float:
    return getattr(sums, part) / sums.input_tokens if sums.input_tokens else 0.0


def _by_model(groups: Groups) -> dict[str, Sums]:
    found: dict[str, Sums] = {}
    for (_, model), sums in groups.items():
        found[model] = found[model].plus(sums) if model in found else sums
    return found
