"""A real Alertmanager on loopback, with the shipped example of a configuration led to an inbox."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from examples.children import Child, Running, free_port, wait_for
from examples.inbox import Inbox
from examples.net import get, serves
from examples.tools import ROOT, directory_to_run_in, need

EXAMPLE: Final = ROOT / "alert_rules" / "alertmanager"
READY_S: Final = 60
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_WAITS: Final = ("group_wait", "group_interval")


def nobody() -> dict[str, Any]:
    """A configuration that tells nobody: for who reads Alertmanager's API only."""
    route = {"receiver": "nobody", "group_wait": "200ms", "group_interval": "1s", "group_by": ["alertname"]}
    return {"route": route, "receivers": [{"name": "nobody"}]}


def shipped(inbox: Inbox, time_scale: int = 60) -> dict[str, Any]:
    """The shipped example with its routes, inhibitions and templates; every receiver is the inbox.

    Waits before a message are `time_scale` times shorter. Chat goes to `/slack`, pages to `/pagerduty`, tickets to
    `/ticket`, mail by SMTP.
    """
    config: dict[str, Any] = yaml.safe_load((EXAMPLE / "alertmanager.yml").read_text(encoding="utf-8"))
    config["templates"] = [str(EXAMPLE / "*.tmpl")]
    config["global"] = {
        "slack_api_url": f"{inbox.url}/slack",
        "pagerduty_url": f"{inbox.url}/pagerduty",
        "smtp_smarthost": inbox.smtp,
        "smtp_from": config["global"]["smtp_from"],
        "smtp_require_tls": False,
    }
    for receiver in config["receivers"]:
        for page in receiver.get("pagerduty_configs", ()):
            # The name of the key's file tells whom it is for.
            page["routing_key"] = Path(page.pop("routing_key_file")).name
        for hook in receiver.get("webhook_configs", ()):
            hook["url"] = f"{inbox.url}/{receiver['name']}"
    _hasten(config["route"], time_scale)
    return config


def _hasten(route: dict[str, Any], time_scale: int) -> None:
    for name in _WAITS:
        if name in route:
            found = re.fullmatch(r"(\d+)([smhd])", route[name])
            assert found, route[name]
            route[name] = f"{int(found[1]) * _UNITS_MS[found[2]] // time_scale}ms"
    for child in route.get("routes", ()):
        _hasten(child, time_scale)


class Alertmanager(Running):
    """Runs inside `with`."""

    def __init__(self, directory: Path, config: Mapping[str, Any], preferred_port: int = 0) -> None:
        super().__init__()
        self._directory = directory
        self._config = config
        self._port = free_port(preferred_port)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Base address."""
        return f"http://{self.address}"

    def _start(self) -> None:
        file = self._directory / "alertmanager.yml"
        file.write_text(yaml.safe_dump(self._config, sort_keys=False), encoding="utf-8")
        program = need("prometheus-alertmanager")
        command = [
            program,
            f"--config.file={file}",
            f"--storage.path={self._directory / 'alertmanager'}",
            f"--web.listen-address={self.address}",
            f"--web.external-url={self.url}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        log = self._directory / "alertmanager.log"
        child = self._stack.enter_context(Child("alertmanager", command, log, directory=directory_to_run_in(program)))
        wait_for("Alertmanager is ready", lambda: serves(f"{self.url}/-/ready"), READY_S, child)

    def alerts(self, state: str = "") -> list[dict[str, Any]]:
        """Alerts that it holds: all, or those `active` or `suppressed` (held back by another)."""
        found: list[dict[str, Any]] = json.loads(get(f"{self.url}/api/v2/alerts"))
        return [alert for alert in found if not state or alert["status"]["state"] == state]
