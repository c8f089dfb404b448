"""Recorded calls under a producer: the ledger against the truth of the files, call by call."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.producers import bills
from tests.producers.bills import Bill
from tests.producers.sample import Recorded, is_metered
from tests.producers.untold import ODD, UNTOLD, Odd, Untold
from tests.traffic.recordings import Exchange

Row = Mapping[str, Any]


@dataclass
class Verdict:
    """One producer, all its calls."""

    producer: str
    seen: Counter[str] = field(default_factory=Counter[str])
    """How a call came out → how many."""
    untold: Counter[str] = field(default_factory=Counter[str])
    """What was not told → in how many calls that made a difference."""
    wrong: list[str] = field(default_factory=list[str])
    """What nothing explains."""
    needed: set[Untold] = field(default_factory=set[Untold])
    """Facts that explained something."""
    odd: set[str] = field(default_factory=set[str])
    """Recordings that came out otherwise, as was said."""

    def line(self) -> str:
        """For the table."""
        told = ", ".join(f"{what} {count}" for what, count in sorted(self.untold.items()))
        return f"{self.producer:<24}" + " ".join(f"{self.seen[name]:>9}" for name in COLUMNS) + f"  {told}"


COLUMNS = ("driven", "equal", "differs", "no usage", "no call", "raised", "refused", "untold", "rows", "wrong")
HEAD = " " * 24 + " ".join(f"{name:>9}" for name in COLUMNS) + "  not told"


def judge(producer: str, told: Sequence[Mapping[str, Any]], rows: Iterable[Row], recorded: Recorded) -> Verdict:
    """Compare."""
    verdict = Verdict(producer)
    by_call = _by_call(told, rows, verdict)
    for call in told:
        exchange, found = recorded.exchanges[call["id"]], by_call[call["id"]]
        verdict.seen["rows"] += len(found)
        if "skipped" in call:
            if found:
                verdict.wrong.append(f"{exchange.id}: not made, and charged")
            continue
        verdict.seen["driven"] += 1
        outcome = _one(producer, call, exchange, found, recorded, verdict)
        if outcome is not None:
            verdict.seen[outcome] += 1
    verdict.seen["wrong"] = len(verdict.wrong)
    return verdict


def _by_call(told: Sequence[Mapping[str, Any]], rows: Iterable[Row], verdict: Verdict) -> dict[str, list[Row]]:
    """Rows by the trace of the call, else (of libraries that leave it) by its time: one call follows the other."""
    by_trace = {call["trace"]: call["id"] for call in told}
    found: dict[str, list[Row]] = {call["id"]: [] for call in told}
    for row in rows:
        name = by_trace.get(row["trace_id"]) or next(
            (call["id"] for call in told if call["from"] <= row["start"] <= call["to"]), None
        )
        if name is None:
            verdict.wrong.append(f"a row of {row['source']} that belongs to no call")
        else:
            found[name].append(row)
    return found


def _one(
    producer: str,
    call: Mapping[str, Any],
    exchange: Exchange,
    rows: Sequence[Row],
    recorded: Recorded,
    verdict: Verdict,
) -> str | None:
    """How a call came out; None when it is wrong."""
    reasons = [fact for fact in UNTOLD if producer in fact.producers.split() and fact.when(exchange)]
    facts = frozenset(fact.what for fact in reasons)
    where = f"{exchange.id} {'stream' if exchange.streaming else 'whole'}"
    if "twice" in facts and len(rows) > 1:
        # What tells no usage is no charge: a call that is counted, and costs nothing.
        _count(verdict, reasons, "twice")
        rows = [row for row in rows if row["usage_source"] != "unknown"] or rows[:1]
    if len(rows) > 1:
        return verdict.wrong.append(f"{where}: {len(rows)} charges of {[row['source'] for row in rows]}")
    used = next((row for row in rows if row["usage_source"] != "unknown"), None)
    price = partial(bills.bill, exchange, *recorded.models(exchange.id), at_ns=rows[0]["start"] if rows else 0)
    truth = price() if is_metered(exchange) and exchange.status < 400 else None
    if truth is None:
        if used is not None and "guess" not in facts:
            told = f"charged {bills.of_row(used)}, the answer ({exchange.status}) tells no usage"
            return verdict.wrong.append(f"{where}: {told}")
        if used is not None:
            _count(verdict, reasons, "guess")
        return "refused" if exchange.status >= 400 else "untold"
    odd = _odd(producer, exchange.id)
    if used is not None:
        return _used(bills.of_row(used), truth, price, odd, where, reasons, verdict)
    missing = "usage" if rows else "call"
    if odd and odd.what == missing:
        verdict.untold["odd"] += 1
        verdict.odd.add(exchange.id)
    elif "raised" in call:
        return "raised"
    elif missing not in facts:
        return verdict.wrong.append(f"{where}: no {missing} of {truth}")
    else:
        _count(verdict, reasons, missing)
    return f"no {missing}"


def _used(
    row: Bill,
    truth: Bill,
    price: Callable[..., Bill | None],
    odd: Odd | None,
    where: str,
    reasons: Sequence[Untold],
    verdict: Verdict,
) -> str | None:
    facts = frozenset(fact.what for fact in reasons)
    if {"guess", "usage"} <= facts:
        for fact in ("guess", "usage"):
            _count(verdict, reasons, fact)
        return "differs"
    if facts & {"call", "usage"}:
        return verdict.wrong.append(f"{where}: told, though it is said not to tell: {facts}")
    expected = price(untold=facts)
    if expected != row and odd and _differing(expected, row) <= set(odd.what.split()):
        verdict.untold["odd"] += 1
        verdict.odd.add(where.partition(" ")[0])
        return "differs"
    if expected != row:
        return verdict.wrong.append(f"{where}: {_difference(expected, row)}")
    if expected == truth:
        return "equal"
    for fact in facts:
        if price(untold=facts - {fact}) != expected:
            _count(verdict, reasons, fact)
    return "differs"


def _odd(producer: str, recording: str) -> Odd | None:
    group = next((name for name in ("ours", "vercel") if name in producer), "")
    return next((ODD[whose, recording] for whose in (producer, group, "*") if (whose, recording) in ODD), None)


def stale(verdict: Verdict, told: Sequence[Mapping[str, Any]]) -> list[str]:
    """Facts and single recordings that explain nothing: the producer tells more than is said."""
    name, driven = verdict.producer, {call["id"] for call in told if "skipped" not in call}
    odd = [recording for whose, recording in ODD if whose == name and recording in driven - verdict.odd]
    return [*odd, *(fact.why for fact in UNTOLD if name in fact.producers.split() and fact not in verdict.needed)]


def _count(verdict: Verdict, reasons: Sequence[Untold], what: str) -> None:
    verdict.untold[what] += 1
    verdict.needed |= {reason for reason in reasons if reason.what == what}


def _differing(expected: Bill | None, row: Bill) -> set[str]:
    pairs = zip(Bill._fields, expected or (), row, strict=False)
    return {name for name, was, now in pairs if was != now} if expected else {"usage"}


def _difference(expected: Bill | None, row: Bill) -> str:
    if expected is None:
        return f"told {row}, nothing was expected"
    pairs = zip(Bill._fields, expected, row, strict=True)
    return json.dumps({name: [was, now] for name, was, now in pairs if was != now})
