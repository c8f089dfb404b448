# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOptionalSubscript=false
"""Calls at a steady rate; what the caller waits for each is the client and the meter, for there is no network.

`python steady.py <calls a second> <seconds> <file>`: response ids go to the file; when all are made, prints how
long they took, and what the spool counts; then waits for the end of its input. One call in ten goes through the
client library, over a transport in the process; the others are handed to the meter as the library would hand
them, so that the rate can be had beside other work. Their times are told apart.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import count

import httpx2
import openai
from opentelemetry import metrics
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from spool_kit import ANSWER, finished

CLIENT = 10
"""One call in so many goes through the library."""
numbers = count()


def new_id() -> str:
    """Of an answer."""
    return f"chatcmpl-{sys.argv[3].rpartition('/')[2].partition('.')[0]}-{next(numbers):016d}"


def answer(_request: httpx2.Request) -> httpx2.Response:
    """A new answer each time."""
    return httpx2.Response(200, headers={"x-request-id": "req-1"}, json={**ANSWER, "created": 1, "id": new_id()})


def spool_counts() -> dict[str, int]:
    """`genai_meter.spool.events` by state."""
    reader = InMemoryMetricReader()
    metrics.get_meter_provider().add_metric_reader(reader)
    data = reader.get_metrics_data()
    found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
    points = [p for metric in found if metric.name == "genai_meter.spool.events" for p in metric.data.data_points]
    return {point.attributes["genai_meter.spool.state"]: point.value for point in points}


def quantiles(times: list[float]) -> dict[str, float]:
    """Milliseconds that a call took."""
    times.sort()
    return {f"p{q}": times[min(len(times) - 1, len(times) * q // 1000)] * 1e3 for q in (500, 900, 990, 999)}


def main() -> None:
    rate, seconds = int(sys.argv[1]), int(sys.argv[2])
    client = openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
    messages = [{"role": "user", "content": "Is it there?"}]
    client.chat.completions.create(model="gpt-4o-mini", messages=messages)
    print("ready", flush=True)
    sys.stdin.readline()
    taken = {"client": [], "meter": []}
    with open(sys.argv[3], "w", encoding="ascii", buffering=1) as journal:
        begun = time.perf_counter()
        for number in range(rate * seconds):
            wait = begun + number / rate - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            start = time.perf_counter()
            if number % CLIENT == 0:
                made = client.chat.completions.create(model="gpt-4o-mini", messages=messages).id
            else:
                made = finished(new_id())
            taken["meter" if number % CLIENT else "client"].append(time.perf_counter() - start)
            journal.write(f"{made}\n")
    told = {"calls": rate * seconds, "seconds": time.perf_counter() - begun, "spool": spool_counts()}
    print(json.dumps({**told, **{name: quantiles(times) for name, times in taken.items()}}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
