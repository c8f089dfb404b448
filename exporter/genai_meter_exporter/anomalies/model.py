"""The section `anomalies` of the configuration."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal, TypeAlias, get_args

from pydantic import Field, PositiveFloat, PositiveInt

from genai_meter_exporter.budgets.model import PICO, Money, money
from genai_meter_exporter.section import Section

Kind: TypeAlias = Literal[
    "tenant_spend", "workflow_spend", "new_model", "model_mix", "prompt_growth", "cache_drop", "retries_up"
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

HYSTERESIS: Final = 0.8
"""An anomaly that is open ends below this part of the threshold it began at."""


class Anomalies(Section):
    """From where on something in the ledger is unusual: the last 24 hours against the seven days before."""

    interval_seconds: PositiveFloat = 900.0
    """How often the ledger is searched."""

    spend_ratio: PositiveFloat = 3.0
    """Cost of a tenant or a workflow over its median day."""

    spend_floor_usd: Money = 20
    """A tenant or workflow that costs less is no anomaly."""

    new_model_share: float = Field(default=0.05, gt=0, le=1)
    """Share of a service's calls that a model without history must have."""

    mix_shift: float = Field(default=0.3, gt=0, le=1)
    """Share of a service's calls that goes to other models than before."""

    prompt_growth_ratio: float = Field(default=1.5, gt=1)
    """Input tokens a call since a release over those before it."""

    cache_drop_ratio: float = Field(default=0.7, gt=0, lt=1)
    """Share of input tokens read from prompt caches over what it was."""

    retries_ratio: float = Field(default=3.0, gt=1)
    """Retries a call over what they were."""

    retries_floor: float = Field(default=0.05, gt=0)
    """Fewer retries a call are no anomaly."""

    min_calls: PositiveInt = 100
    """Fewer calls say nothing about a share."""

    limit: PositiveInt = 50
    """Anomalies that are open at a time: each is a series of its own."""

    @property
    def spend_floor(self) -> int:
        """In pico-USD."""
        return int(Decimal(money(self.spend_floor_usd)) * PICO)
