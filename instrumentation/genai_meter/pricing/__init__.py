"""Price of a call: dated rate cards over exclusive usage buckets, in integer pico-USD."""

from __future__ import annotations

from genai_meter.pricing.card import RateCard
from genai_meter.pricing.cost import Cost, CostStatus, Line, add_costs
from genai_meter.pricing.resolver import billed_model, price, rate_card

__all__ = ["Cost", "CostStatus", "Line", "RateCard", "add_costs", "billed_model", "price", "rate_card"]
