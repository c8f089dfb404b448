"""The files of examples/deploy: each is read by what reads it there, or by its schema, and agrees with the program."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from genai_meter_exporter import config
from genai_meter_exporter.cli import main
from genai_meter_exporter.config import Config

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "examples" / "deploy"
UNIT = DEPLOY / "genai-meter.service"
PORTS = {4327, 4328, 4329}


def documents() -> dict[str, Any]:
    """The Kubernetes objects by their kind."""
    found: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "genai-meter.yaml").read_text()))
    return {document["kind"]: document for document in found}


def test_the_configuration_is_right_and_leaves_nothing_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside = tmp_path / "inside.yaml"
    inside.write_text(documents()["ConfigMap"]["data"]["genai-meter.yaml"], encoding="utf-8")
    assert config.load(inside) == config.load(DEPLOY / "genai-meter.yaml")
    assert main(["config", "check", str(DEPLOY / "genai-meter.yaml")]) == 0
    # Only what has to be made first is missing.
    warned = capsys.readouterr().err.splitlines()
    assert [line.partition("warning: ")[2].partition(":")[0] for line in warned] == ["tls", "access.tokens"]


def settings(text: str) -> dict[str, list[str]]:
    """Keys of the unit and their values."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    found = settings(text)
    assert int(found["TimeoutStopSec"][0]) > Config().limits.shutdown_seconds
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    # The program's place does not exist here; another that does stands for it.
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/genai-meter/bin/genai-meter", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, [])
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    if "offline" in security.stderr:
        pytest.skip("this systemd-analyze cannot rate a file")
    assert security.returncode == 0, security.stdout[-600:]


def test_the_commands_of_all_files_are_the_programs_own() -> None:
    """What is started is parsed by the program's own parser."""
    import argparse

    from genai_meter_exporter.commands import serve

    parser = argparse.ArgumentParser()
    serve.configure(parser)
    container = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    (told,) = re.findall(r"^CMD \[(.*)\]$", container, re.MULTILINE)
    from_container = [part.strip().strip('"') for part in told.split(",")]
    (exec_start,) = settings(UNIT.read_text(encoding="utf-8"))["ExecStart"]
    from_pod = documents()["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]["args"]
    for command in (from_container, exec_start.split()[1:], from_pod):
        assert command[0] == "serve"
        options = parser.parse_args(command[1:])
        assert (str(options.config), options.data_dir) == ("/etc/genai-meter/genai-meter.yaml", "/var/lib/genai-meter")


def test_the_container_runs_as_nobody_in_particular() -> None:
    """It is not built here: there is no container engine. What can be said of the text is."""
    lines = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    assert {line[0] for line in words} <= {
        *("FROM", "ARG", "RUN", "COPY", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD")
    }
    by_name = {line[0]: line[1:] for line in words}
    assert by_name["USER"] == ["10001:10001"]
    assert {int(port) for port in by_name["EXPOSE"]} == PORTS
    assert by_name["STOPSIGNAL"] == ["SIGTERM"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in ("exporter", "postgres"):
        assert f"\n{extra} = [" in project


def test_kubernetes_objects_fit_together() -> None:
    found = documents()
    assert {(kind, document["apiVersion"]) for kind, document in found.items()} == {
        ("ConfigMap", "v1"),
        ("ServiceAccount", "v1"),
        ("StatefulSet", "apps/v1"),
        ("Service", "v1"),
        ("NetworkPolicy", "networking.k8s.io/v1"),
        ("ServiceMonitor", "monitoring.coreos.com/v1"),
    }
    state = found["StatefulSet"]["spec"]
    pod = state["template"]["spec"]
    (container,) = pod["containers"]
    labels = state["template"]["metadata"]["labels"]
    selectors = [state["selector"]["matchLabels"], found["Service"]["spec"]["selector"]]
    selectors.append(found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"])
    selectors.append(found["ServiceMonitor"]["spec"]["selector"]["matchLabels"])
    assert selectors == [labels] * 4
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert set(ports.values()) == PORTS
    assert {port["targetPort"]: port["port"] for port in found["Service"]["spec"]["ports"]} == ports
    allowed = [port["port"] for rule in found["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    assert sorted(allowed) == sorted(PORTS)
    assert [probe["httpGet"]["path"] for probe in (container["livenessProbe"], container["readinessProbe"])] == [
        *("/healthz", "/readyz")
    ]
    (endpoint,) = found["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in found["Service"]["spec"]["ports"]}
    # A scrape interval that the exporter does not know of would hide the first value of a new series.
    told = yaml.safe_load(found["ConfigMap"]["data"]["genai-meter.yaml"])
    assert endpoint["interval"] == f"{told['metrics']['scrape_interval_seconds']}s"
    assert pod["terminationGracePeriodSeconds"] > Config().limits.shutdown_seconds
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]} | {
        claim["metadata"]["name"] for claim in state["volumeClaimTemplates"]
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (pod["securityContext"]["runAsNonRoot"], pod["automountServiceAccountToken"]) == (True, False)
