"""What a workflow run or a conversation has cost so far, for the application itself: in this process only."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from genai_meter import attribution
from genai_meter.pricing.cost import usd

if TYPE_CHECKING:
    from genai_meter.call import Call
    from genai_meter.settle import Outcome

_KEPT: Final = 4096
"""Runs, and as many conversations; the one that was idle the longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Spend:
    """What one run or conversation has used up to now. A snapshot: ask again for a newer one."""

    id: str | None
    """None outside any run (conversation): then all figures are zero."""
    cost_usd: Decimal = Decimal(0)
    """After discounts, by the price book of this process; other costs (`record_cost`) included."""
    calls: int = 0
    """Finished provider calls, failed ones included."""
    input_tokens: int = 0
    """Gross: cached tokens included."""
    output_tokens: int = 0
    """Gross: reasoning included."""
    unpriced_calls: int = 0
    """Calls that were answered and whose cost is unknown: `cost_usd` lacks them."""
    cache_hits: int = 0
    """Answers from the application's own caches; no calls."""
    cost_avoided_usd: Decimal = Decimal(0)
    """What these answers did not cost."""

    @property
    def total_tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens


class _Total:
    """Sums of one run or conversation; money in pico-USD."""

    __slots__ = ("avoided", "calls", "cost", "hits", "input", "output", "unpriced")

    def __init__(self) -> None:
        self.calls = self.input = self.output = self.cost = self.unpriced = self.hits = self.avoided = 0

    def spend(self, name: str) -> Spend:
        return Spend(
            name, usd(self.cost), self.calls, self.input, self.output, self.unpriced, self.hits, usd(self.avoided)
        )


class _Totals:
    """Totals by id, the least recently used forgotten."""

    def __init__(self) -> None:
        self._totals: OrderedDict[str, _Total] = OrderedDict()

    def of(self, name: str) -> _Total:
        """The total of an id, made when it is new. The caller holds the lock."""
        total = self._totals.get(name)
        if total is None:
            total = self._totals[name] = _Total()
            if len(self._totals) > _KEPT:
                self._totals.popitem(last=False)
        else:
            self._totals.move_to_end(name)
        return total

    def spend(self, name: str | None) -> Spend:
        """The snapshot of an id."""
        with _lock:
            total = self._totals.get(name) if name else None
            return total.spend(name) if total is not None and name else Spend(name or None)

    def clear(self) -> None:
        self._totals.clear()


_runs = _Totals()
_conversations = _Totals()
_lock = threading.RLock()  # re-entrant: a finalizer may end a call of its own


def current_run() -> Spend:
    """What the workflow run active in this context (`attribute(run_id=…)`) has cost so far in this process."""
    return _runs.spend(attribution.current().get("run_id"))


def current_conversation() -> Spend:
    """What the conversation active in this context (`attribute(conversation_id=…)`) has cost so far in this process."""
    return _conversations.spend(attribution.current().get("conversation_id"))


# --- written by calls -----------------------------------------------------------------------------------
def _touched(fields: Mapping[str, Any], conversation: str | None) -> list[_Total]:
    """The totals that a call counts into. The caller holds the lock."""
    found: list[_Total] = []
    if run := fields.get("run_id"):
        found.append(_runs.of(run))
    if name := fields.get("conversation_id") or conversation:
        found.append(_conversations.of(name))
    return found


def add(call: Call, outcome: Outcome, *_told: object) -> None:
    """Count a finished call into its run and its conversation; nothing when it has none."""
    fields, conversation = call.prepared.attribution, call.prepared.request.conversation_id
    if conversation is None and "run_id" not in fields and "conversation_id" not in fields:
        return
    cost = outcome.cost
    pico = cost.effective_pico if cost is not None else None
    with _lock:
        for total in _touched(fields, conversation):
            total.calls += 1
            total.input += outcome.input_tokens
            total.output += outcome.output_tokens
            total.cost += pico or 0
            if cost is not None and pico is None:
                total.unpriced += 1


def add_cost(fields: Mapping[str, Any], pico: int) -> None:
    """Count a cost that is no call."""
    with _lock:
        for total in _touched(fields, None):
            total.cost += pico


def add_cache_hit(fields: Mapping[str, Any], avoided_pico: int) -> None:
    """Count an answer from a cache."""
    with _lock:
        for total in _touched(fields, None):
            total.hits += 1
            total.avoided += avoided_pico


def forget() -> None:
    """Begin anew."""
    _runs.clear()
    _conversations.clear()


def _after_fork() -> None:
    """The child counts its own calls, on a lock of its own."""
    global _lock
    _lock = threading.RLock()
    forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
