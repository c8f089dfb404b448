"""The Alertmanager example: valid, routed as its table says, and delivered by a real Alertmanager as people read it."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from genai_meter_exporter.cli import main
from tools_kit import needed

from examples.alertmanager import EXAMPLE, Alertmanager, shipped
from examples.children import wait_for
from examples.inbox import Inbox

CONFIG = EXAMPLE / "alertmanager.yml"
RULES = EXAMPLE.parent / "genai-meter.rules.yaml"
RUNBOOK = "https://runbooks.example.com/genai-meter"
BOARD = "https://grafana.example.com/d/genai-meter-spend"


def alerts() -> list[dict[str, Any]]:
    """Every alert of the shipped rules."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


# --- checked by amtool ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def amtool() -> Path:
    """The real amtool."""
    return needed("amtool")


def run(*arguments: object) -> str:
    """What a tool prints; its complaint is the message when it fails."""
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def receivers(amtool: Path, labels: Mapping[str, str]) -> set[str]:
    """Who is told of an alert with these labels."""
    pairs = [f"{name}={value}" for name, value in labels.items()]
    return set(run(amtool, "config", "routes", "test", f"--config.file={CONFIG}", *pairs).strip().split(","))


def test_amtool_accepts_the_example_with_its_templates(amtool: Path) -> None:
    said = run(amtool, "check-config", CONFIG)
    assert "SUCCESS" in said
    assert re.search(r"- 1 templates", said)
    assert len(re.findall(r"SUCCESS", said)) == 2, "the configuration and the template file"


ROUTES = {
    "a page of a team without a rota": (
        {"alertname": "GenAIMeterBudgetExceeded", "severity": "critical", "category": "budget", "team": "ads"},
        {"ticket", "page", "chat"},
    ),
    "a page of a team with one": (
        {"alertname": "GenAIMeterBudgetExceeded", "severity": "critical", "category": "budget", "team": "search"},
        {"ticket", "page-search", "chat"},
    ),
    "a page of a service in production": (
        {"alertname": "GenAIMeterHourlySpendSpike", "severity": "critical", "team": "ads", "environment": "prod"},
        {"ticket", "page", "chat"},
    ),
    "the same in staging wakes nobody": (
        {"alertname": "GenAIMeterHourlySpendSpike", "severity": "critical", "team": "ads", "environment": "staging"},
        {"ticket", "chat"},
    ),
    "a warning": (
        {"alertname": "GenAIMeterBudgetBurnRate", "severity": "warning", "category": "budget", "team": "search"},
        {"ticket", "chat"},
    ),
    "money that finance plans with": (
        {"alertname": "GenAIMeterBudgetForecastExceeded", "severity": "warning", "team": "ads", "audience": "finance"},
        {"ticket", "finance", "chat"},
    ),
    "what can wait for the week's review": (
        {"alertname": "GenAIMeterTenantAboveLastWeek", "severity": "warning", "review": "weekly"},
        {"ticket", "review"},
    ),
    "the meter is blind": (
        {"alertname": "GenAIMeterTelemetryAbsent", "severity": "critical", "audience": "operations"},
        {"ticket", "page-platform"},
    ),
    "the meter rejects": (
        {"alertname": "GenAIMeterEventsRejected", "severity": "warning", "audience": "operations"},
        {"ticket", "platform"},
    ),
    "the meter lacks a price, which finance wants to know": (
        {"alertname": "GenAIMeterUnpricedModel", "severity": "warning", "audience": "finance"},
        {"ticket", "finance", "platform"},
    ),
    "a service that the meter does not hear": (
        {"alertname": "GenAIMeterServiceTelemetryLost", "severity": "warning", "audience": "engineering"},
        {"ticket", "chat"},
    ),
    "nobody else's alerts": ({"alertname": "HostDown", "severity": "critical", "team": "search"}, {"ticket"}),
}


@pytest.mark.parametrize(("labels", "expected"), ROUTES.values(), ids=ROUTES)
def test_routes(amtool: Path, labels: Mapping[str, str], expected: set[str]) -> None:
    assert receivers(amtool, labels) == expected


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: f"{alert['alert']}-{alert['labels']['severity']}")
def test_every_shipped_alert_reaches_people_and_a_ticket(amtool: Path, alert: dict[str, Any]) -> None:
    told = receivers(amtool, {"alertname": alert["alert"], **alert["labels"]})
    assert "ticket" in told
    assert told - {"ticket"}
    if alert["labels"]["severity"] == "critical":
        assert any(name.startswith("page") for name in told)


def test_inhibitions_name_alerts_that_exist() -> None:
    names = {alert["alert"] for alert in alerts()}
    matchers = [
        matcher
        for rule in yaml.safe_load(CONFIG.read_text())["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        if matcher.startswith("alertname")
    ]
    assert matchers
    for matcher in matchers:
        prefix, _, rest = re.sub(r'alertname=~?"(.*)"', r"\1", matcher).partition("(")
        for ending in rest.removesuffix(")").split("|"):
            assert prefix + ending in names


def test_of_many_alerts_in_one_message_ten_are_written_out(amtool: Path, tmp_path: Path) -> None:
    many: list[Any] = [
        {**fired("GenAIMeterTenantOverContract", "critical", team="sales"), "status": "firing"} for _ in range(12)
    ]
    for number, alert in enumerate(many):
        alert["annotations"]["description"] = f"Tenant {number} cost $9.00 in the last hour."
    data = tmp_path / "data.json"
    common = {"commonLabels": many[0]["labels"], "commonAnnotations": {"summary": "Too dear."}}
    data.write_text(json.dumps({"status": "firing", "alerts": many, **common, "externalURL": "http://am"}))

    def rendered(name: str) -> str:
        text = f'{{{{ template "genai_meter.{name}" . }}}}'
        files = f"--template.glob={EXAMPLE}/*.tmpl"
        return run(amtool, "template", "render", files, f"--template.text={text}", f"--template.data={data}").strip()

    assert rendered("title") == "[CRITICAL] Too dear. (12)"
    assert rendered("channel") == "#sales-llm-alerts"
    assert rendered("dashboard") == "http://am", "they differ in theirs"
    message = rendered("slack")
    assert re.findall(r"^Tenant (\d+) cost", message, re.MULTILINE) == [str(number) for number in range(10)]
    assert message.splitlines()[-1] == "<http://am|All 12>"


# --- delivered for real -----------------------------------------------------------------------------------
NOW = datetime.now(UTC).replace(microsecond=0)


def fired(name: str, severity: str, **labels: str) -> dict[str, Any]:
    """An alert as Prometheus sends it."""
    budget = labels.get("budget", "")
    return {
        "labels": {"alertname": name, "severity": severity, "category": "budget", **labels},
        "annotations": {
            "summary": f"Summary of {name}.",
            "description": f"Budget {budget} stands at 113.5% of its amount: $17.02 of $15.00.",
            "primarily_due_to": "feature agent on gpt-4.1: $16.00 in the last hour",
            "owner": f"{labels.get('owner', 'nobody')} (team {labels['team']})",
            "action": "Stop what is not critical.",
            "runbook_url": f"{RUNBOOK}/{name}.md",
            "dashboard_url": BOARD,
        },
        "startsAt": NOW.isoformat(),
        "generatorURL": "http://prometheus.example.com/graph",
    }


SEARCH = {"team": "search", "owner": "ada@example.com", "window": "month"}
EXCEEDED = fired("GenAIMeterBudgetExceeded", "critical", budget="search-month", **SEARCH)
BURN = fired("GenAIMeterBudgetBurnRate", "critical", budget="search-month", long="1h", **SEARCH)
OTHER_BURN = fired("GenAIMeterBudgetBurnRate", "warning", budget="ads-month", long="1d", team="ads")
FORECAST = fired("GenAIMeterBudgetForecastExceeded", "warning", budget="ads-month", team="ads", audience="finance")


def send(alertmanager: Alertmanager, *sent: dict[str, Any]) -> None:
    """As Prometheus does."""
    request = urllib.request.Request(
        f"{alertmanager.url}/api/v2/alerts", json.dumps(sent).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60):
        pass


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Inbox, Alertmanager]]:
    """An inbox with what a real Alertmanager has delivered: four alerts, of which one is held back."""
    needed("prometheus-alertmanager")
    with Inbox() as inbox:
        config = shipped(inbox, time_scale=100)
        with Alertmanager(tmp_path_factory.mktemp("alertmanager"), config) as alertmanager:
            # What holds another back has to be known first.
            send(alertmanager, EXCEEDED)
            wait_for("a page", lambda: inbox.at("/pagerduty"), 60)
            send(alertmanager, BURN, OTHER_BURN, FORECAST)
            for path in ("/slack", "/pagerduty", "/ticket", "finance@example.com"):
                wait_for(f"a message to {path}", lambda path=path: inbox.at(path), 60)
            wait_for("both messages to the team of ads", lambda: len(inbox.at("/ticket")) >= 3 or None, 60)
            yield inbox, alertmanager


def named(name: str) -> Callable[[Any], bool]:
    """Whether a body tells of that alert."""

    def tells(body: Any) -> bool:
        return name in json.dumps(body)

    return tells


def test_slack_says_what_changed_who_owns_it_and_what_to_do(delivered: tuple[Inbox, Alertmanager]) -> None:
    inbox, _ = delivered
    message = inbox.first("/slack", named("GenAIMeterBudgetExceeded"))
    assert message is not None
    (attachment,) = message.body["attachments"]
    assert message.body["channel"] == "#search-llm-alerts"
    assert (attachment["title"], attachment["title_link"], attachment["color"]) == (
        "[CRITICAL] Summary of GenAIMeterBudgetExceeded.",
        BOARD,
        "danger",
    )
    assert attachment["text"] == (
        "Budget search-month stands at 113.5% of its amount: $17.02 of $15.00.\n"
        "*Primarily due to:* feature agent on gpt-4.1: $16.00 in the last hour\n"
        "*Owner:* ada@example.com (team search)\n"
        "*Next step:* Stop what is not critical.\n"
        f"*Since:* {NOW:%Y-%m-%d %H:%M} UTC\n"
        f"<{RUNBOOK}/GenAIMeterBudgetExceeded.md|Runbook> · <{BOARD}|Dashboard> · "
        "<http://prometheus.example.com/graph|Query>"
    )


def test_pagerduty_wakes_the_team_that_the_label_names(delivered: tuple[Inbox, Alertmanager]) -> None:
    inbox, _ = delivered
    pages = inbox.at("/pagerduty")
    assert [page.body["routing_key"] for page in pages] == ["pagerduty-search"]
    payload = pages[0].body["payload"]
    assert (payload["summary"], payload["severity"], payload["class"], payload["group"]) == (
        "[CRITICAL] Summary of GenAIMeterBudgetExceeded.",
        "critical",
        "budget",
        "search",
    )
    assert payload["custom_details"]["what"] == (
        "Budget search-month stands at 113.5% of its amount: $17.02 of $15.00.\n"
        "Primarily due to: feature agent on gpt-4.1: $16.00 in the last hour\n"
        "Owner: ada@example.com (team search)\n"
        "Next step: Stop what is not critical.\n"
        f"Since: {NOW:%Y-%m-%d %H:%M} UTC\n"
        f"Runbook: {RUNBOOK}/GenAIMeterBudgetExceeded.md\n"
        f"Dashboard: {BOARD}"
    )
    assert pages[0].body["links"] == [{"href": f"{RUNBOOK}/GenAIMeterBudgetExceeded.md", "text": "Runbook"}]


def test_finance_reads_a_mail(delivered: tuple[Inbox, Alertmanager]) -> None:
    inbox, _ = delivered
    (mail,) = inbox.at("finance@example.com")
    assert mail.headers["subject"] == "[WARNING] Summary of GenAIMeterBudgetForecastExceeded."
    plain, html = (mail.body.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert plain.splitlines()[:4] == [
        "Budget ads-month stands at 113.5% of its amount: $17.02 of $15.00.",
        "Primarily due to: feature agent on gpt-4.1: $16.00 in the last hour",
        "Owner: nobody (team ads)",
        "Next step: Stop what is not critical.",
    ]
    assert "<td>nobody (team ads)</td>" in html
    assert f'<a href="{RUNBOOK}/GenAIMeterBudgetForecastExceeded.md">Runbook</a>' in html


def test_a_ticket_has_every_label_and_annotation_and_a_held_back_alert_has_none(
    delivered: tuple[Inbox, Alertmanager],
) -> None:
    inbox, alertmanager = delivered
    found = {
        (alert["labels"]["alertname"], alert["labels"]["budget"]): alert
        for ticket in inbox.at("/ticket")
        for alert in ticket.body["alerts"]
    }
    expected = {
        (sent["labels"]["alertname"], sent["labels"]["budget"]): sent for sent in (EXCEEDED, OTHER_BURN, FORECAST)
    }
    assert {key: (alert["labels"], alert["annotations"]) for key, alert in found.items()} == {
        key: (sent["labels"], sent["annotations"]) for key, sent in expected.items()
    }
    (held,) = alertmanager.alerts("suppressed")
    assert held["labels"] == BURN["labels"]


def test_chat_is_told_when_it_is_over(delivered: tuple[Inbox, Alertmanager]) -> None:
    inbox, alertmanager = delivered
    over = NOW + timedelta(seconds=1)
    send(alertmanager, {**OTHER_BURN, "endsAt": over.isoformat()})

    def is_over(body: Any) -> bool:
        return body["attachments"][0]["title"].startswith("[RESOLVED]")

    message = wait_for("the end is told", lambda: inbox.first("/slack", is_over), 60)
    (attachment,) = message.body["attachments"]
    assert (message.body["channel"], attachment["color"], attachment["title"]) == (
        "#ads-llm-alerts",
        "good",
        "[RESOLVED] Summary of GenAIMeterBudgetBurnRate.",
    )
    assert "Next step" not in attachment["text"]
    assert f"*Since:* {NOW:%Y-%m-%d %H:%M} UTC to {over:%Y-%m-%d %H:%M} UTC" in attachment["text"]


def test_the_command_writes_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--alertmanager", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == RULES.read_text(encoding="utf-8")
    written = {file.name: file.read_bytes() for file in (tmp_path / "new").iterdir()}
    assert written == {name: (EXAMPLE / name).read_bytes() for name in ("alertmanager.yml", "genai-meter.tmpl")}
