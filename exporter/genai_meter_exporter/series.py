"""The metric families, and what committed calls add to them. Integers only: calls, tokens, pico-USD, nanoseconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import add as plus
from operator import itemgetter
from typing import Final, Literal, NamedTuple, TypeAlias

from genai_meter.semconv import DURATION_BOUNDARIES, TOKEN_BOUNDARIES

from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cells import COST, DIMENSIONS, MEASURES, Cell, Measures

SeriesKey: TypeAlias = tuple[str, tuple[str, ...]]
"""Family and label values."""

Unit: TypeAlias = Literal["count", "pico_usd"]


@dataclass(frozen=True, slots=True)
class Family:
    """One counter family of `/metrics`."""

    name: str
    """Without the prefix `genai_meter_` and the suffix `_total`."""
    labels: tuple[str, ...]
    doc: str
    unit: Unit = "count"
    held: bool = True
    """A new series is shown at zero first."""
    internal: bool = False
    """Kept for a gauge computed from it, not shown."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """One histogram family of `/metrics`."""

    name: str
    labels: tuple[str, ...]
    doc: str
    boundaries: tuple[float, ...]
    scale: int
    """Units of the integer sum in one unit of the boundaries."""


_WHO: Final = ("team", "environment", "service", "feature", "provider", "model")

COST_USD: Final = Family("cost_usd", _WHO, "Effective cost of priced calls; only goes up, see credit_usd.", "pico_usd")
TOKENS: Final = Family("tokens", (*_WHO, "token_type"), "Tokens in exclusive classes: their sum is the total.")
REQUESTS: Final = Family("requests", (*_WHO, "operation", "status"), "Calls in the ledger, by how they ended.")
RETRIES: Final = Family("retries", _WHO, "HTTP exchanges beyond the first of a call.")
TENANT_COST: Final = Family("tenant_cost_usd", ("tenant",), "Effective cost by tenant.", "pico_usd")
WORKFLOW_COST: Final = Family("workflow_cost_usd", ("team", "workflow"), "Effective cost by workflow.", "pico_usd")
CREDIT: Final = Family("credit_usd", _WHO, "Corrections that lowered a cost: ledger = cost - credit.", "pico_usd")
UNPRICED: Final = Family("unpriced_requests", ("provider", "model"), "Calls with usage but without a price.")
OUTCOMES: Final = Family("outcomes", ("team", "feature", "outcome", "success"), "Outcomes of the work, each id once.")
OUTCOME_VALUE: Final = Family("outcome_value_usd", ("team", "feature", "outcome"), "Value of outcomes.", "pico_usd")
CACHE_HITS: Final = Family("cache_hits", _WHO, "Answers from the applications' own caches; no calls.")
COST_AVOIDED: Final = Family("cost_avoided_usd", _WHO, "What these answers did not cost.", "pico_usd")
CLOCK_AHEAD: Final = Family(
    "clock_ahead_requests", ("team", "environment", "service"), "Calls that ended over five seconds after they arrived."
)
LATE: Final = Family(
    "late_requests", ("team", "environment", "service"), "Calls that arrived over a week after they ended."
)
INGEST: Final = Family("ingest_events", ("status",), "Records received, by what became of them.", held=False)
LEDGER_EVENTS: Final = Family("ledger_events", (), "Calls in the ledger.", held=False)
LEDGER_WITHDRAWN: Final = Family(
    "ledger_events_withdrawn", (), "Calls taken out again, charged twice under different names.", held=False
)
LEDGER_COST: Final = Family(
    "ledger_cost_usd", (), "Charges to the ledger; its sum is this less the credits.", "pico_usd", held=False
)
LEDGER_CREDIT: Final = Family("ledger_credit_usd", (), "Credits to the ledger.", "pico_usd", held=False)
PRICED_COST: Final = Family("priced_cost", ("provider", "model"), "", "pico_usd", internal=True)
PRICED_TOKENS: Final = Family("priced_tokens", ("provider", "model"), "", internal=True)

FAMILIES: Final = (
    COST_USD,
    TOKENS,
    REQUESTS,
    RETRIES,
    TENANT_COST,
    WORKFLOW_COST,
    CREDIT,
    UNPRICED,
    OUTCOMES,
    OUTCOME_VALUE,
    CACHE_HITS,
    COST_AVOIDED,
    CLOCK_AHEAD,
    LATE,
    INGEST,
    LEDGER_EVENTS,
    LEDGER_WITHDRAWN,
    LEDGER_COST,
    LEDGER_CREDIT,
    PRICED_COST,
    PRICED_TOKENS,
)

DURATION: Final = Histogram(
    "request_duration_seconds",
    ("service", "provider", "model"),
    "Duration of a call, retries and the whole stream included.",
    DURATION_BOUNDARIES,
    1_000_000_000,
)
REQUEST_TOKENS: Final = Histogram(
    "request_tokens",
    ("service", "provider", "model", "direction"),
    "Gross tokens of a call.",
    TOKEN_BOUNDARIES,
    1,
)
FIRST_CHUNK: Final = Histogram(
    "time_to_first_chunk_seconds",
    ("provider", "model"),
    "Time from the request to the first chunk of a streamed answer.",
    DURATION_BOUNDARIES,
    1_000_000_000,
)
HISTOGRAMS: Final = (DURATION, REQUEST_TOKENS, FIRST_CHUNK)

LAST_EVENT: Final = "last_event_timestamp_seconds"
LAST_EVENT_LABELS: Final = ("team", "environment", "service")

LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    **{family.name: family.labels for family in FAMILIES},
    **{histogram.name: histogram.labels for histogram in HISTOGRAMS},
}
"""Family → label names."""

SUM: Final = ":sum"
"""Suffix of a histogram's name under which its sum is kept; its buckets have `:<index>`."""

_AT: Final = {name: index for index, name in enumerate(DIMENSIONS)}
_TENANT, _WORKFLOW, _TEAM, _PROVIDER, _MODEL = (
    _AT[name] for name in ("tenant", "workflow", "team", "provider", "model")
)
_UNPRICED, _GROSS_INPUT, _GROSS_OUTPUT = (
    MEASURES.index(name) for name in ("unpriced_calls", "input_tokens", "output_tokens")
)
_SERIES_OF: Final = itemgetter(*(_AT[name] for name in REQUESTS.labels))
"""Dimensions → labels of `requests`; without the last two, of all families by who asked whom."""


@dataclass(slots=True)
class Exemplar:
    """The latest call that fell into one bucket of a histogram."""

    trace_id: str
    span_id: str
    value: float
    time: float
    """Unix seconds."""


class Run(NamedTuple):
    """What one call adds to a run of a workflow."""

    team: str
    workflow: str
    run_id: str
    cost: int
    """Pico-USD."""
    end_ns: int


@dataclass(slots=True)
class Deltas:
    """What a transaction adds to the counters."""

    values: dict[SeriesKey, int] = field(default_factory=dict[SeriesKey, int])
    exemplars: dict[SeriesKey, Exemplar] = field(default_factory=dict[SeriesKey, Exemplar])
    last_events: dict[tuple[str, str, str], int] = field(default_factory=dict[tuple[str, str, str], int])
    cells: dict[Cell, Measures] = field(default_factory=dict[Cell, Measures])
    """Net change of the roll-ups, for the budgets."""
    runs: list[Run] = field(default_factory=list["Run"])
    """New calls that belong to a run of a workflow."""

    def add(self, family: str, labels: tuple[str, ...], amount: int) -> None:
        """Add to one series. A zero is added too where it makes the series known."""
        key = (family, labels)
        self.values[key] = self.values.get(key, 0) + amount


def add_cells(deltas: Deltas, bounds: Bounds, gained: Mapping[tuple[str, ...], Measures]) -> None:
    """New calls by their dimensions. Most differ in a tenant only, and share all series but the tenant's."""
    shared: dict[tuple[str, ...], Measures] = {}
    tenants: dict[str, int] = {}
    workflows: dict[tuple[str, str], int] = {}
    models: dict[tuple[str, str], int] = {}
    for dimensions, what in gained.items():
        key = _SERIES_OF(dimensions)
        before = shared.get(key)
        shared[key] = what if before is None else tuple(map(plus, before, what))
        cost = what[COST]
        if not cost:
            continue
        tenant = dimensions[_TENANT]
        tenants[tenant] = tenants.get(tenant, 0) + cost
        if workflow := dimensions[_WORKFLOW]:
            owner = dimensions[_TEAM], workflow
            workflows[owner] = workflows.get(owner, 0) + cost
        if not what[_UNPRICED]:
            model = dimensions[_PROVIDER], dimensions[_MODEL]
            models[model] = models.get(model, 0) + what[_GROSS_INPUT] + what[_GROSS_OUTPUT]

    def add(family: Family, labels: tuple[str, ...], amount: int) -> None:
        deltas.add(family.name, bounds.fold(family.name, family.labels, labels), amount)

    for tenant, cost in tenants.items():
        add(TENANT_COST, (tenant,), cost)
    for owner, cost in workflows.items():
        add(WORKFLOW_COST, owner, cost)
    # Tokens beside their cost, which only priced calls have.
    for model, tokens in models.items():
        add(PRICED_TOKENS, model, tokens)
    for key, what in shared.items():
        _add_shared(deltas, bounds, key[:-2], key, what)


def _add_shared(deltas: Deltas, bounds: Bounds, who: tuple[str, ...], ended: tuple[str, ...], what: Measures) -> None:
    """What is counted by who asked whom, and how it ended."""
    model = who[-2:]
    calls, retries, gross_input, gross_output, cache_read, cache_write, reasoning, unpriced = what[:8]
    cost = what[COST]

    def add(family: Family, labels: tuple[str, ...], amount: int) -> None:
        deltas.add(family.name, bounds.fold(family.name, family.labels, labels), amount)

    if calls:
        add(REQUESTS, ended, calls)
        deltas.add(LEDGER_EVENTS.name, (), calls)
    if retries:
        add(RETRIES, who, retries)
    for token_type, amount in (
        ("input", gross_input - cache_read - cache_write),
        ("output", gross_output - reasoning),
        ("cache_read", cache_read),
        ("cache_write", cache_write),
        ("reasoning", reasoning),
    ):
        if amount > 0:
            add(TOKENS, (*who, token_type), amount)
    if unpriced:
        add(UNPRICED, model, unpriced)
    if cost:
        add(COST_USD, who, cost)
        deltas.add(LEDGER_COST.name, (), cost)
        add(PRICED_COST, model, cost)


def replace_cell(deltas: Deltas, bounds: Bounds, old: tuple[Cell, Measures], new: tuple[Cell, Measures]) -> None:
    """A better record took the place of a charge: the difference goes up as a charge or down as a credit.

    Series by series: where both records count into the same one only the difference is added; between two the whole
    amount moves, a credit to the old labels, a charge to the new ones. What only counts up and has no credit family
    (calls, tokens) follows the new record where it is higher.
    """
    (_, dimensions), was = old
    before, after = Deltas(), Deltas()
    add_cells(before, bounds, {dimensions: was})
    add_cells(after, bounds, {new[0][1]: new[1]})
    for key, amount in after.values.items():
        grown = amount - before.values.get(key, 0)
        if grown > 0 and key[0] != LEDGER_COST.name:
            deltas.add(*key, grown)
            if key[0] == COST_USD.name:
                deltas.add(LEDGER_COST.name, (), grown)
    costs = ((key, amount) for key, amount in before.values.items() if key[0] == COST_USD.name)
    _credit(deltas, bounds, dimensions, sum(max(amount - after.values.get(key, 0), 0) for key, amount in costs))


def withdraw_cell(deltas: Deltas, bounds: Bounds, dimensions: tuple[str, ...], what: Measures) -> None:
    """A charge for a call that had been charged already."""
    deltas.add(LEDGER_WITHDRAWN.name, (), 1)
    _credit(deltas, bounds, dimensions, what[COST])


def _credit(deltas: Deltas, bounds: Bounds, dimensions: tuple[str, ...], amount: int) -> None:
    if amount:
        who = tuple(dimensions[_AT[name]] for name in _WHO)
        deltas.add(CREDIT.name, bounds.fold(CREDIT.name, CREDIT.labels, who), amount)
        deltas.add(LEDGER_CREDIT.name, (), amount)


def count_ingest(deltas: Deltas, counts: Iterable[tuple[str, int]]) -> None:
    """Records by what became of them."""
    for status, count in counts:
        if count:
            deltas.add(INGEST.name, (status,), count)
