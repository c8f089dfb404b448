"""Loading the price book in a fresh process, and the first price of a model."""

from __future__ import annotations

import hashlib
import json
import time
import zlib

import genai_meter.pricing as pricing
from genai_meter.pricing.book import read_book
from genai_meter.usage import Usage

# Every client library has loaded these long before its first call.
LOADED = (hashlib, json, zlib)


def main() -> None:
    begun = time.process_time_ns()
    read_book()
    loaded = time.process_time_ns()
    warm: list[float] = []
    for _ in range(9):
        again = time.process_time_ns()
        read_book()
        warm.append((time.process_time_ns() - again) / 1e9)
    pricing.price("openai", "gpt-4.1-mini", [Usage({"input": 1000})], time.time_ns(), {})
    before = time.process_time_ns()
    pricing.price("anthropic", "claude-haiku-4-5", [Usage({"input": 1000})], time.time_ns(), {})
    first = time.process_time_ns() - before
    print(json.dumps({"load": (loaded - begun) / 1e9, "again": min(warm), "first_price": first / 1e9}))


if __name__ == "__main__":
    main()
