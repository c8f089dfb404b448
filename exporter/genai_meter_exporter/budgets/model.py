"""The budgets of the configuration: whose money, how much, over what time, and who answers for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, field_validator, model_validator

from genai_meter_exporter.cells import DIMENSIONS
from genai_meter_exporter.section import Section

Unit: TypeAlias = Literal["usd", "tokens", "calls"]

PICO: Final = 10**12
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ROLLING: Final = re.compile(r"rolling ([1-9][0-9]*)([hd])")
_CALENDAR: Final = ("hour", "day", "week", "month")
LONGEST_DAYS: Final = 400
_MOST_USD: Final = 10**12
_YEARS: Final = range(1970, 2200)


def money(value: Any) -> Decimal:
    """An amount of USD as written; ValueError for what is none."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("is no amount of USD") from None
    if not amount.is_finite() or amount < 0 or isinstance(value, bool):
        raise ValueError("is no amount of USD")
    if amount > _MOST_USD:
        raise ValueError(f"must be at most {_MOST_USD:,} USD")
    return amount


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no date like 2026-10-01") from None


def zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name; ValueError for an unknown one."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone like Europe/Berlin") from None


def _text_of_day(value: Any) -> Any:
    """YAML reads 2026-12-01 without quotes as a date."""
    return value.isoformat() if type(value) is date else value


def _is_day(text: str) -> str:
    _day(text)
    return text


def _is_money(value: str | int | float) -> str | int | float:
    money(value)
    return value


def _is_zone(name: str) -> str:
    zone(name)
    return name


def _is_identity(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("must be lower case letters, digits, '.', '_' or '-', at most 63")
    return name


Day: TypeAlias = Annotated[str, BeforeValidator(_text_of_day), AfterValidator(_is_day)]
"""A day as 2026-12-01."""
Money: TypeAlias = Annotated[str | int | float, AfterValidator(_is_money)]
"""An amount of USD as written."""
ZoneName: TypeAlias = Annotated[str, AfterValidator(_is_zone)]
"""A time zone's IANA name."""
Identity: TypeAlias = Annotated[str, AfterValidator(_is_identity)]
"""A name that is a label of metrics, and under which things are remembered."""


def known_dimensions(names: Iterable[str]) -> None:
    """ValueError for a name that is no dimension of the roll-ups."""
    for name in names:
        if name not in DIMENSIONS:
            raise ValueError(f"{name} is no dimension; use some of: {', '.join(DIMENSIONS)}")


def unique(kind: str, names: Iterable[str]) -> None:
    """ValueError for a name that is there twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two {kind} are called {name!r}; a name is an identity")
        seen.add(name)


class Amount(Section):
    """How much; one of the three."""

    usd: Money | None = None
    """Effective cost."""
    tokens: PositiveInt | None = None
    """Input and output tokens, cached ones and reasoning included."""
    calls: PositiveInt | None = None
    """Calls, retries not counted."""

    @field_validator("usd")
    @classmethod
    def _is_positive(cls, value: str | int | float | None) -> str | int | float | None:
        if value is not None and money(value) * PICO < 1:
            raise ValueError("must be more than 0: at least 0.000000000001")
        return value

    @model_validator(mode="after")
    def _is_one(self) -> Amount:
        if sum(value is not None for value in (self.usd, self.tokens, self.calls)) != 1:
            raise ValueError("give exactly one of usd, tokens, calls")
        return self

    @property
    def unit(self) -> Unit:
        """What is counted."""
        return "usd" if self.usd is not None else "tokens" if self.tokens is not None else "calls"

    @property
    def quantity(self) -> int:
        """In pico-USD, tokens or calls."""
        if self.usd is not None:
            return int(money(self.usd) * PICO)
        return self.tokens or self.calls or 0


class Thresholds(Section):
    """Shares of the amount at which a budget changes its state."""

    at_risk: float = Field(default=0.8, gt=0, lt=1)
    """From here on somebody should look."""
    soft: float = Field(default=0.95, gt=0, le=1)
    """From here on calls may be degraded."""

    @model_validator(mode="after")
    def _in_order(self) -> Thresholds:
        if self.at_risk >= self.soft:
            raise ValueError(f"at_risk ({self.at_risk}) must be below soft ({self.soft}): it would never be reached")
        return self


class Plan(Section):
    """When the money is meant to be spent, as weights; equal ones where not given. So nights are no savings."""

    weekdays: list[float] = Field(default_factory=lambda: [1.0] * 7)
    """Monday to Sunday."""
    hours: list[float] = Field(default_factory=lambda: [1.0] * 24)
    """From midnight, in the budget's time zone."""

    @model_validator(mode="after")
    def _is_whole(self) -> Plan:
        for name, weights, count in (("weekdays", self.weekdays, 7), ("hours", self.hours, 24)):
            if len(weights) != count or min(weights) < 0 or not sum(weights):
                raise ValueError(f"{name} must be {count} weights, not negative, not all 0")
        return self


class KnownEvent(Section):
    """A launch, a price change, a holiday: days on which spend is expected to differ."""

    first: Day
    """First day, as 2026-12-01."""
    last: Day | None = None
    """Last day; without it, the first one only."""
    multiplier: float = Field(ge=0)
    """What the expected spend of such a day is multiplied by."""
    why: str = ""
    """For whoever reads the forecast."""

    @model_validator(mode="after")
    def _in_order(self) -> KnownEvent:
        if self.last is not None and _day(self.last) < _day(self.first):
            raise ValueError(f"last ({self.last}) is before first ({self.first})")
        return self

    def holds(self, day: date) -> bool:
        """Whether a day is one of it."""
        return _day(self.first) <= day <= _day(self.last or self.first)


class Budget(Section):
    """One amount over one period for one scope."""

    name: Identity
    """Unique; lower case, digits, `.`, `_`, `-`. A label of its metrics."""
    scope: dict[str, str | list[str]] = Field(default_factory=dict[str, str | list[str]])
    """Dimension of the roll-ups → the value, or several of which one must fit. Empty: everything."""
    amount: Amount
    """How much."""
    period: str = "month"
    """`hour`, `day`, `week` (from Monday), `month`; `rolling 24h`, `rolling 7d`; or dates `2026-10-01/2026-12-31`, \
both included."""
    timezone: ZoneName | None = None
    """IANA name; without it that of the section."""
    thresholds: Thresholds | None = None
    """Without them those of the profile of the scope's environment, else the defaults."""
    team: str = ""
    """Who owns it. A label."""
    owner: str = ""
    """Who is asked. A label."""
    channel: str = ""
    """Where its alerts go."""
    escalation: str = ""
    """Who is next."""
    runbook: str = ""
    """URL."""
    next_step: str = ""
    """What to do when it alerts."""
    plan: Plan = Plan()
    """When the money is meant to be spent."""
    events: list[KnownEvent] = Field(default_factory=list[KnownEvent])
    """Days that will differ."""

    @field_validator("scope")
    @classmethod
    def _is_scope(cls, value: Mapping[str, str | list[str]]) -> Mapping[str, str | list[str]]:
        known_dimensions(value)
        for name, told in value.items():
            if not told and not isinstance(told, str):
                raise ValueError(f"{name} has no value; leave it out for all")
        return value

    @field_validator("period")
    @classmethod
    def _is_period(cls, value: str) -> str:
        if value in _CALENDAR:
            return value
        if rolling := _ROLLING.fullmatch(value):
            if span_seconds(rolling[1], rolling[2]) > LONGEST_DAYS * 86400:
                raise ValueError(f"must not be longer than {LONGEST_DAYS} days")
            return value
        first, slash, last = value.partition("/")
        if not slash:
            raise ValueError("must be hour, day, week, month, `rolling 7d`, or dates `2026-10-01/2026-12-31`")
        if not 0 <= (_day(last) - _day(first)).days < LONGEST_DAYS:
            raise ValueError(f"must end after it begins, within {LONGEST_DAYS} days")
        if _day(first).year not in _YEARS:
            raise ValueError(f"must be in the years {_YEARS[0]} to {_YEARS[-1]}")
        return value

    @property
    def rolling_seconds(self) -> int | None:
        """Length of a rolling period."""
        found = _ROLLING.fullmatch(self.period)
        return span_seconds(found[1], found[2]) if found else None

    @property
    def dates(self) -> tuple[date, date] | None:
        """First and last day of a period given by dates."""
        first, slash, last = self.period.partition("/")
        return (_day(first), _day(last)) if slash else None

    @property
    def values(self) -> dict[str, tuple[str, ...]]:
        """Dimension → values of which one must fit."""
        return {name: (told,) if isinstance(told, str) else tuple(told) for name, told in self.scope.items()}


def span_seconds(count: str, unit: str) -> int:
    """Seconds of so many hours or days."""
    return int(count) * (3600 if unit == "h" else 86400)


class Contract(Section):
    """What a tenant may use, and pays."""

    tenant: str
    team: str = ""
    """The account team. A label."""
    usd_per_hour: Money | None = None
    """Contracted cost of one hour."""
    revenue_usd_30d: Money | None = None
    """What the tenant pays in 30 days."""


class RunCap(Section):
    """What one run of a workflow may cost."""

    workflow: str
    team: str = ""
    """Only runs of this team; empty: of any."""
    usd: Money


class Budgets(Section):
    """Budgets, contracts and caps."""

    timezone: ZoneName = "UTC"
    """Of every budget that names none."""
    profiles: dict[str, Thresholds] = Field(default_factory=dict[str, Thresholds])
    """Environment → thresholds of budgets whose scope is that environment: experiments may run closer to the edge."""
    entries: list[Budget] = Field(default_factory=list[Budget])
    """The budgets (docs/budgets.md)."""
    contracts: list[Contract] = Field(default_factory=list[Contract])
    """Per tenant: the contracted cost of an hour, and the revenue."""
    run_caps: list[RunCap] = Field(default_factory=list[RunCap])
    """Per workflow: what one run may cost."""

    @model_validator(mode="after")
    def _are_unique(self) -> Budgets:
        unique("budgets", (budget.name for budget in self.entries))
        tenants = [f"contracts of the tenant {contract.tenant!r}" for contract in self.contracts]
        caps = [f"caps of the workflow {cap.workflow!r} and the team {cap.team!r}" for cap in self.run_caps]
        for found in (tenants, caps):
            if twice := next((one for one in found if found.count(one) > 1), None):
                raise ValueError(f"two {twice}; keep one of them")
        return self

    def thresholds(self, budget: Budget) -> Thresholds:
        """Those of a budget, of its environment's profile, or the defaults."""
        environments = budget.values.get("environment", ())
        profile = self.profiles.get(environments[0]) if len(environments) == 1 else None
        return budget.thresholds or profile or Thresholds()
