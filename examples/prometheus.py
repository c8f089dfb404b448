"""A real Prometheus and a real Alertmanager on loopback, for the demo and the end-to-end tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from examples.alertmanager import Alertmanager, nobody
from examples.children import Child, Running, free_port, wait_for
from examples.net import get, serves
from examples.tools import need

READY_S: Final = 60


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a query."""

    labels: Mapping[str, str]
    value: float


def backfill(data: Path, openmetrics: str) -> None:
    """Write history into a Prometheus that is not running yet, as blocks of up to 90 days."""
    data.mkdir(parents=True, exist_ok=True)
    file = data.parent / "history.om"
    file.write_text(openmetrics, encoding="utf-8")
    command = [need("promtool"), "tsdb", "create-blocks-from", "--max-block-duration=2160h", "openmetrics", file, data]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"promtool could not backfill: {done.stdout}{done.stderr}")


def gauge(name: str, labels: Mapping[str, str], samples: Iterable[tuple[float, float]]) -> str:
    """OpenMetrics text of one gauge: (Unix time, value), oldest first, with the end mark."""
    text = ",".join(f'{key}="{value}"' for key, value in labels.items())
    lines = [f"{name}{{{text}}} {value} {at:.3f}" for at, value in samples]
    return "\n".join([f"# TYPE {name} gauge", *lines, "# EOF"]) + "\n"


class Prometheus(Running):
    """Prometheus that scrapes the given targets, evaluates the given rules and tells its Alertmanager."""

    def __init__(
        self,
        directory: Path,
        targets: Mapping[str, str],
        rules: Path | None = None,
        history: str | None = None,
        scrape_interval: str = "1s",
        preferred_port: int = 0,
        alertmanager: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.directory = directory
        self._targets = targets
        self._rules = rules
        self._history = history
        self._scrape_interval = scrape_interval
        self._port = free_port(preferred_port)
        self.alertmanager = Alertmanager(
            directory, alertmanager or nobody(), preferred_port + 3 if preferred_port else 0
        )

    @property
    def url(self) -> str:
        """Base address of Prometheus."""
        return f"http://127.0.0.1:{self._port}"

    def _start(self) -> None:
        self._stack.enter_context(self.alertmanager)
        data = self.directory / "prometheus"
        shutil.rmtree(data, ignore_errors=True)
        if self._history:
            backfill(data, self._history)
        config = self.directory / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config(), sort_keys=False), encoding="utf-8")
        command = [
            need("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={data}",
            "--storage.tsdb.retention.time=400d",  # the default of 15 days would delete older history
            f"--web.listen-address=127.0.0.1:{self._port}",
            f"--web.external-url={self.url}",
            "--rules.alert.resend-delay=1s",  # an alert that fires before Alertmanager is known is sent again
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]
        child = self._stack.enter_context(Child("prometheus", command, self.directory / "prometheus.log"))
        wait_for("Prometheus is ready", lambda: serves(f"{self.url}/-/ready"), READY_S, child)

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "global": {"scrape_interval": self._scrape_interval, "scrape_timeout": self._scrape_interval},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in self._targets.items()
            ],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [self.alertmanager.address]}]}]},
        }
        if self._rules:
            config["rule_files"] = [str(self._rules)]
        return config

    # --- questions ----------------------------------------------------------------------------------
    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of the HTTP API."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            return json.loads(get(url))["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{parameters.get('query', path)}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[Sample]:
        """The values of an expression now."""
        found = self.ask("query", query=expression)["result"]
        return [Sample(item["metric"], float(item["value"][1])) for item in found]

    def alerts(self, state: str = "firing") -> list[dict[str, Any]]:
        """Alerts in that state, with labels and annotations."""
        return [alert for alert in self.ask("alerts")["alerts"] if alert["state"] == state]

    def exemplars(self, expression: str, seconds: float = 600) -> list[dict[str, Any]]:
        """Exemplars of the series in the expression: labels, value and timestamp of each."""
        now = time.time()
        found = self.ask("query_exemplars", query=expression, start=f"{now - seconds:.3f}", end=f"{now + 1:.3f}")
        return [{**exemplar, "series": item["seriesLabels"]} for item in found for exemplar in item["exemplars"]]
