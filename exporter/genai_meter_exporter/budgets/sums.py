"""What the scope of one budget has spent: by quarter of an hour where that is needed, by local day else."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from genai_meter_exporter.budgets.model import Budget
from genai_meter_exporter.budgets.periods import Period, local_day
from genai_meter_exporter.cells import GRAIN_SECONDS

HISTORY_DAYS: Final = 62
"""Days kept for the forecast beyond the period."""
_RECENT_SECONDS: Final = 2 * 86400


class Sums:
    """Integers in the budget's unit. Amounts may be negative: corrections lower a sum."""

    def __init__(self, budget: Budget, zone: ZoneInfo) -> None:
        self._zone = zone
        rolling = budget.rolling_seconds
        self._quarters_kept = max(rolling or 0, _RECENT_SECONDS)
        dates = budget.dates
        self._days_kept = HISTORY_DAYS + ((dates[1] - dates[0]).days if dates else 31)
        self.quarters: dict[int, int] = {}
        """Start of the quarter (Unix seconds) → amount."""
        self.days: dict[date, int] = {}
        """Local day → amount."""

    def reach(self, now: float) -> int:
        """From where on (Unix seconds) cells matter at all."""
        return int(now) - max(self._quarters_kept, self._days_kept * 86400)

    def add(self, start: int, amount: int) -> None:
        """One cell."""
        self.quarters[start] = self.quarters.get(start, 0) + amount
        day = local_day(self._zone, start)
        self.days[day] = self.days.get(day, 0) + amount

    def within(self, period: Period) -> int:
        """The sum of a period: exact, as long as it lies within what is kept."""
        if period.first is not None:
            return sum(self.days.get(day, 0) for day in period.days())
        return sum(amount for start, amount in self.quarters.items() if period.start <= start < period.end)

    def since(self, start: float) -> int:
        """The sum of the quarters that begin at an instant or after it."""
        return sum(amount for quarter, amount in self.quarters.items() if quarter >= start)

    def history(self, today: date, count: int) -> list[int]:
        """The last whole days before today, oldest first; days before the first spend are left out."""
        first = min(self.days, default=today)
        days = [today - timedelta(days=number) for number in range(count, 0, -1)]
        return [self.days.get(day, 0) for day in days if day >= first]

    def forget(self, now: float) -> None:
        """Let go of what no period and no forecast looks at any more."""
        oldest = int(now) - self._quarters_kept - GRAIN_SECONDS
        for start in [start for start in self.quarters if start < oldest]:
            del self.quarters[start]
        last = local_day(self._zone, int(now)) - timedelta(days=self._days_kept)
        for day in [day for day in self.days if day < last]:
            del self.days[day]
