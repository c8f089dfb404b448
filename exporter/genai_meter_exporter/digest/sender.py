"""Sends each digest once for each period.

A message that cannot be delivered is tried again until the next one is due; one that was missed while no exporter ran
is sent late. The very first period of a new digest is left out: nobody wants the past of an installation.

A period is remembered after the receiver has said yes. A crash between the two sends it again, with the same
`Idempotency-Key`.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from genai_meter_exporter.budgets.engine import Standing
from genai_meter_exporter.budgets.model import zone
from genai_meter_exporter.digest.memory import Memory
from genai_meter_exporter.digest.message import document, text
from genai_meter_exporter.digest.numbers import gather
from genai_meter_exporter.digest.periods import Due, latest
from genai_meter_exporter.digest.settings import Digest, Entry
from genai_meter_exporter.store import Reader, StoreError

logger: Final = logging.getLogger("genai_meter_exporter")

_LOOK_SECONDS: Final = 20.0
_RETRY_SECONDS: Final = (60.0, 300.0, 900.0)
"""After the first, the second and every further failure."""
_TIMEOUT_SECONDS: Final = 15.0


class Sender:
    """Looks every 20 seconds, in a thread of its own; `tick` is one look."""

    def __init__(
        self,
        digest: Digest,
        memory: Memory,
        read: Callable[[], Reader],
        standings: Callable[[], Sequence[Standing]],
        *,
        anomalies: Callable[[Entry], Sequence[str]] = lambda _: (),
        directory: Path | None = None,
    ) -> None:
        """`directory`: where relative `url_file`s are."""
        self._digest = digest
        self._memory = memory
        self._read = read
        self._standings = standings
        self._anomalies = anomalies
        self._directory = directory or Path()
        self._failures: dict[str, int] = dict.fromkeys((entry.name for entry in digest.entries), 0)
        self._streak: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._sent: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="genai-meter-digest", daemon=True)

    def start(self) -> None:
        """From now on, if there is anything to send."""
        if self._digest.entries and self._thread.ident is None:
            self._thread.start()

    def exchange(self, digest: Digest) -> None:
        """Send these from now on. What is remembered under a name holds for it; what failed is tried at once."""
        self._failures = {**dict.fromkeys((entry.name for entry in digest.entries), 0), **self._failures}
        self._digest = digest
        self._streak, self._not_before = {}, {}
        if not self._stop.is_set():
            self.start()

    def stop(self) -> None:
        """Not any more; waits for a message that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_TIMEOUT_SECONDS * 2)

    def collect(self) -> Iterable[Metric]:
        """Its metrics."""
        sent = GaugeMetricFamily(
            "genai_meter_digest_sent_timestamp_seconds", "When this exporter last sent a digest.", labels=("digest",)
        )
        names = [entry.name for entry in self._digest.entries]
        for name in names:
            if name in self._sent:
                sent.add_metric((name,), self._sent[name])
        failures = CounterMetricFamily(
            "genai_meter_digest_failures", "Attempts to send a digest that failed.", labels=("digest",)
        )
        for name in names:
            failures.add_metric((name,), self._failures[name])
        return (sent, failures)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.tick(time.time())
            self._stop.wait(_LOOK_SECONDS)

    def tick(self, now: float) -> None:
        """Send what is due and has not been sent."""
        digest = self._digest
        for entry in digest.entries:
            if now < self._not_before.get(entry.name, 0.0):
                continue
            try:
                self._attend(entry, latest(entry, zone(digest.timezone), now), now)
            except (OSError, StoreError) as error:
                wait = self._wait(entry, now)
                logger.error("the digest %s was not sent and is tried again in %d s: %s", entry.name, wait, error)
            except Exception:
                wait = self._wait(entry, now)
                logger.exception("the digest %s failed and is tried again in %d s", entry.name, wait)
            else:
                self._streak.pop(entry.name, None)

    def _wait(self, entry: Entry, now: float) -> float:
        """Seconds until the next attempt."""
        streak = self._streak[entry.name] = self._streak.get(entry.name, 0) + 1
        wait = _RETRY_SECONDS[min(streak, len(_RETRY_SECONDS)) - 1]
        self._failures[entry.name] += 1
        self._not_before[entry.name] = now + wait
        return wait

    def _attend(self, entry: Entry, due: Due, now: float) -> None:
        with self._memory.turn(entry.name) as turn:
            if turn is None or (turn.last is not None and turn.last >= due.span.start):
                return
            if turn.last is None:
                turn.sent(due.span.start)
                return
            self._post(entry, due, self._body(entry, due))
            turn.sent(due.span.start)
        self._sent[entry.name] = now
        logger.info("the digest %s of %s was sent", entry.name, due.span.first)

    def _body(self, entry: Entry, due: Due) -> dict[str, Any]:
        reader = self._read()
        try:
            numbers = gather(entry, due, reader, self._standings(), self._anomalies(entry))
        finally:
            reader.close()
        told = text(numbers)
        # In Slack `<!channel>` wakes everybody, and `<https://…|…>` is a link: a tenant's name is neither.
        return {"text": escape(told, quote=False)} if entry.format == "slack" else {"text": told, **document(numbers)}

    def _post(self, entry: Entry, due: Due, body: dict[str, Any]) -> None:
        """Raises OSError unless the receiver says yes. The address may be a secret: no error names it."""
        url = entry.url or (self._directory / str(entry.url_file)).read_text(encoding="utf-8").strip()
        if not url.startswith(("http://", "https://")):
            raise OSError(f"what {entry.url_file} holds does not begin with http:// or https://")
        headers = {"content-type": "application/json", "idempotency-key": f"{entry.name}/{due.span.first.isoformat()}"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_SECONDS):
                pass
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(f"the receiver answered {error.code}") from None
        except http.client.HTTPException as error:
            raise OSError(f"no exchange by HTTP: {type(error).__name__}") from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise OSError(f"the receiver cannot be reached: {reason}") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Followed, a POST would become a GET of some page of login, and that answers 200."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the redirect is the answer."""


_OPENER: Final = urllib.request.build_opener(_NoRedirect)
