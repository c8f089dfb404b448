"""Everything that runs during the demo: provider, exporter, application, Prometheus. All of it ends with the stage."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import yaml

from examples.alertmanager import shipped
from examples.children import Child, Running, free_port, wait_for
from examples.inbox import Inbox
from examples.net import get, serves
from examples.prometheus import Prometheus, gauge
from examples.provider import Provider
from examples.tools import ROOT, ToolMissing, need

BIN: Final = Path(sys.executable).parent
TIME_SCALE: Final = 60
WAIT_SCALE: Final = 3
"""Of Alertmanager's waits: ten seconds before a message, in which `increase()` finds samples enough to be near."""

READY_S: Final = 60

TEAM, ENVIRONMENT, SERVICE = "support", "demo", "assistant"

BUDGET: Final = {
    "name": "support-day",
    "scope": {"team": TEAM},
    "amount": {"usd": 15},
    "period": "day",
    "team": TEAM,
    "owner": "ada@example.com",
    "next_step": "switch the agent off (feature flag support-agent); budgets are raised by finance only.",
}

_TELEMETRY: Final = {
    "OTEL_SERVICE_NAME": SERVICE,
    "OTEL_RESOURCE_ATTRIBUTES": f"deployment.environment.name={ENVIRONMENT},service.version=1.4.2",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    # Quicker than in production: the demo should not wait.
    "OTEL_BLRP_SCHEDULE_DELAY": "200",
    "OTEL_BSP_SCHEDULE_DELAY": "200",
    "OTEL_METRIC_EXPORT_INTERVAL": "2000",
    "GENAI_METER_TEAM": TEAM,
    "GENAI_METER_BAGGAGE_IN": "tenant,feature",
}
"""What an operator sets; the application has nothing of it."""


class Stage(Running):
    """The parts of the demo, started by `with`, in the order in which they need each other."""

    def __init__(self, directory: Path, usual_ports: bool = False, real: bool = False) -> None:
        super().__init__()
        self.directory = directory
        self.real = real
        self._usual_ports = usual_ports
        self.app_url = ""
        self.otlp_url = ""
        """Where the exporter takes OTLP/HTTP."""
        self.metrics_url = ""
        """`/metrics` of the exporter."""
        self.provider: Provider | None = None
        self.prometheus: Prometheus | None = None
        self.inbox: Inbox | None = None
        """Where Slack, PagerDuty and the ticket system would be."""
        self.without_prometheus = ""
        """Why there is no Prometheus, when there is none."""

    def _usual(self, port: int) -> int:
        """The usual port when that is wished and it is free; 0 leaves the choice to whoever listens."""
        return port if self._usual_ports and free_port(port) == port else 0

    @property
    def rules(self) -> Path:
        """The rules at the demo's time scale."""
        return self.directory / "genai-meter.rules.yaml"

    @property
    def config(self) -> Path:
        """The exporter's configuration."""
        return self.directory / "genai-meter.yaml"

    @property
    def ledger(self) -> Path:
        """The exporter's SQLite file."""
        return self.directory / "ledger.db"

    def _start(self) -> None:
        if not self.real:
            self.provider = self._stack.enter_context(Provider())
        self._start_exporter()
        app = self._start_app()
        self._start_prometheus()
        self.app_url = app.printed(r"^listening on (\S+)$", READY_S)
        if prometheus := self.prometheus:
            # A series whose zero Prometheus has not seen has no increase.
            wait_for("Prometheus scrapes the exporter", lambda: prometheus.query("up == 1"), READY_S)

    # --- parts --------------------------------------------------------------------------------------
    def _start_exporter(self) -> None:
        ports = {"grpc_port": 4327, "http_port": 4328, "metrics_port": 4329}
        settings = {
            "listen": {name: self._usual(port) for name, port in ports.items()},
            "metrics": {"scrape_interval_seconds": 1.0},
            "budgets": {"timezone": far_from_midnight(), "entries": [BUDGET]},
        }
        self.config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        command = [BIN / "genai-meter", "serve", "--config", self.config, "--data-dir", self.directory]
        child = self._stack.enter_context(Child("exporter", command, self.directory / "exporter.log"))
        self.otlp_url = child.printed(r"^OTLP/HTTP\s+(http\S+)$", READY_S)
        self.metrics_url = child.printed(r"^metrics\s+(http\S+)$", READY_S)
        ready = self.metrics_url.replace("/metrics", "/readyz")
        wait_for("the exporter is ready", lambda: serves(ready), READY_S, child)

    def _start_prometheus(self) -> None:
        self.command("rules", "--time-scale", str(TIME_SCALE), "--output", str(self.rules))
        target = self.metrics_url.removeprefix("http://").removesuffix("/metrics")
        try:
            need("prometheus")
            need("prometheus-alertmanager")
            inbox = self._stack.enter_context(Inbox())
            prometheus = Prometheus(
                self.directory,
                {"genai-meter": target},
                self.rules,
                history(),
                preferred_port=self._usual(9090),
                alertmanager=shipped(inbox, WAIT_SCALE),
            )
            self.prometheus = self._stack.enter_context(prometheus)
            self.inbox = inbox
        except ToolMissing as error:
            self.without_prometheus = str(error)

    def _start_app(self) -> Child:
        command = [sys.executable, "-m", "examples.demo.web", "--port", str(self._usual(8080))]
        return self._stack.enter_context(self.instrumented("app", command))

    # --- actions ------------------------------------------------------------------------------------
    def instrumented(self, name: str, command: Sequence[str]) -> Child:
        """A process started by `opentelemetry-instrument`, unchanged otherwise."""
        env = {**_TELEMETRY, "OTEL_EXPORTER_OTLP_ENDPOINT": self.otlp_url, "PYTHONPATH": str(ROOT)}
        if self.provider:
            env |= {
                "OPENAI_BASE_URL": f"{self.provider.url}/v1",
                "ANTHROPIC_BASE_URL": self.provider.url,
                "OPENAI_API_KEY": "demo",
                "ANTHROPIC_API_KEY": "demo",
            }
        full = [BIN / "opentelemetry-instrument", *command]
        return Child(name, full, self.directory / f"{name}.log", env, ROOT)

    def request(self, tenant: str, feature: str, question: str, headers: Mapping[str, str] | None = None) -> str:
        """One request of a customer: the gateway in front says in W3C baggage whom it is for."""
        baggage = f"genai_meter.tenant={tenant},genai_meter.feature={feature}"
        request = urllib.request.Request(
            f"{self.app_url}/{feature}", question.encode(), {"baggage": baggage, **(headers or {})}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def job(self, module: str, timeout: float = 60) -> None:
        """Run a module to its end, instrumented."""
        with self.instrumented(module.rpartition(".")[2], [sys.executable, "-m", module]) as child:
            child.succeed(timeout)

    def command(self, *arguments: str, text: str | None = None) -> str:
        """What `genai-meter …` prints."""
        done = subprocess.run(
            [str(BIN / "genai-meter"), *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "COLUMNS": "118"},
        )
        if done.returncode:
            raise RuntimeError(f"genai-meter {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def metric(self, name: str) -> float:
        """A metric without labels, as the exporter shows it now; 0 when it is not there."""
        for line in get(self.metrics_url).decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        return 0.0


def far_from_midnight() -> str:
    """A time zone in which the budget's day does not end during the demo, and is not too young for a forecast."""
    return "UTC" if 0 < datetime.now(UTC).hour < 23 else "Asia/Tokyo"


def history() -> str:
    """Seven days at the demo's time scale: what the service spent in each hour before, made up."""
    now = time.time()
    length, step = 7 * 86_400 / TIME_SCALE, 900 / TIME_SCALE
    points = [now - length - 120 + step * n for n in range(int(length / step) + 8)]
    samples = [(at, 1.2 + 0.5 * math.sin(at * TIME_SCALE / 86_400 * math.tau)) for at in points if at < now - 5]
    labels = {"team": TEAM, "environment": ENVIRONMENT, "service": SERVICE}
    return gauge("service:genai_meter_cost_usd:increase1h", labels, samples)
