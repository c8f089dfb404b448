"""The files of examples/deploy: each is read by what reads it there, or by its schema, and agrees with the program."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from environments import KUBERNETES
from genai_meter_exporter import config
from genai_meter_exporter.cli import main
from genai_meter_exporter.config import Config

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "examples" / "deploy"
UNIT = DEPLOY / "genai-meter.service"
PORTS = {4327, 4328, 4329}
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"


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


# --- by their schemas, and by hand (`make deploy-check`) ---------------------------------------------------
def crds() -> list[str]:
    """What the Prometheus operator says of its objects, from its module."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go, which fetches the Prometheus operator's definitions, is not here")
    with tempfile.TemporaryDirectory() as anywhere:
        command = [go, "mod", "download", "-json", OPERATOR]
        done = subprocess.run(command, cwd=anywhere, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout or "{}")
    if "Dir" not in told:
        pytest.skip(f"the Prometheus operator's module cannot be fetched: {told.get('Error', done.stderr)[:200]}")
    place = Path(told["Dir"]) / "example" / "prometheus-operator-crd"
    return [str(place / f"monitoring.coreos.com_{kind}.yaml") for kind in ("servicemonitors", "prometheusrules")]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
def test_kubernetes_takes_the_objects(version: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--prometheus-rule"]) == 0
    rules = capfd.readouterr().out
    objects = (DEPLOY / "kubernetes" / "genai-meter.yaml").read_text(encoding="utf-8")
    code, told = judged(f"{objects}\n---\n{rules}", version)
    assert code == 0, told
    assert len(told.splitlines()) == 7
    # It would see a slip.
    for right, wrong in (("readOnlyRootFilesystem", "readOnlyRootFileSystem"), ("scheme: https", "schema: https")):
        code, told = judged(objects.replace(right, wrong), version)
        assert (code, wrong.partition(":")[0] in told) == (1, True)


def judged(objects: str, version: str) -> tuple[int, str]:
    """Exit code and words of deploy/schemas.py."""
    command = [KUBERNETES.python(), ROOT / "tests" / "deploy" / "schemas.py", version, *crds()]
    done = subprocess.run(command, input=objects, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_steps_of_the_image_give_a_program_that_serves(tmp_path: Path) -> None:
    """There is no container engine: RUN of its first stage, ENTRYPOINT and CMD, below a scratch directory."""
    wheels, root = tmp_path / "wheels", tmp_path / "root"
    uv = ROOT / ".tools" / "bootstrap" / "bin" / "uv"
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", wheels, ROOT], check=True)
    (built,) = wheels.glob("genai_meter-*.whl")
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", "")
    _, build, last = text.split("\nFROM ")
    variables = dict(re.findall(r"^ARG (\w+)=(\S+)$", build, re.MULTILINE))
    assert variables["VERSION"] == built.name.split("-")[1]
    (run,) = re.findall(r"^RUN (.*)$", build, re.MULTILINE)
    environment = {**os.environ, **variables, "PIP_FIND_LINKS": str(wheels), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    here = run.replace("/opt/", f"{root}/opt/").replace("python -m venv", f"{sys.executable} -m venv")
    subprocess.run(["sh", "-euc", here], env=environment, check=True, capture_output=True, timeout=600)
    entry, command = (json.loads(found) for found in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", last, re.MULTILINE))
    (root / "etc").mkdir()
    (root / "etc" / "genai-meter.yaml").write_text("listen: {grpc_port: 0, http_port: 0, metrics_port: 0}\n")
    places = {"/opt/": f"{root}/opt/", "/etc/genai-meter/": f"{root}/etc/", "/var/": f"{root}/var/"}
    words = [next((w.replace(a, b) for a, b in places.items() if w.startswith(a)), w) for w in [*entry, *command]]
    printed: dict[str, str] = {}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            name, _, told = line.strip().partition("  ")
            printed[name] = told.strip()
            if name == "ledger":
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    assert printed["ledger"] == f"{root}/var/lib/genai-meter/ledger.db"


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
