"""Metrics in alerts, dashboard and scrape jobs are those that TensorFlow Serving 2.16.1 exports, with its labels.

exported_metrics.json lists them as a real server answered them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
MONITORING = REPOSITORY / "serving/deploy/monitoring"
ANSWERS = REPOSITORY.parent / "shared/tf-serving-answers/recorded.jsonl"

EXPORTED: dict[str, dict[str, Any]] = json.loads((HERE / "exported_metrics.json").read_text(encoding="utf-8"))
# From Prometheus, cAdvisor and kube-state-metrics.
OTHERS = {
    "up": {"job", "instance"},
    "container_memory_working_set_bytes": {"container", "namespace", "pod"},
    "kube_pod_container_resource_limits": {"container", "namespace", "pod", "resource"},
}
# What scraping adds to each series.
TARGET_LABELS = {"job", "instance", "namespace", "pod"}

_SELECTOR = re.compile(r"(:[a-z][\w:]*|[a-z_]\w*)\s*\{([^}]*)\}|(:[a-z][\w:]*)")
_LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')


def _dashboard() -> dict[str, Any]:
    return json.loads((MONITORING / "grafana/dashboard.json").read_text(encoding="utf-8"))


def _alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return group["rules"]


def _expressions() -> Iterator[Any]:
    for rule in _alerts():
        yield pytest.param(rule["expr"], id=rule["alert"])
    for panel in _dashboard()["panels"]:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for annotation in _dashboard()["annotations"]["list"]:
        yield pytest.param(annotation["expr"], id=annotation["name"])
    (rule,) = yaml.safe_load((MONITORING / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]
    yield pytest.param(rule["seriesQuery"], id="prometheus-adapter")


def metric_problems(expression: str) -> list[str]:
    """Returns the metrics and labels of a PromQL expression that nobody exports."""
    problems = []
    for match in _SELECTOR.finditer(expression):
        name = match[1] or match[3]
        labels = set(_LABEL.findall(match[2] or ""))
        known = known_labels(name)
        if known is None:
            problems.append(f"{name}: exported by nobody")
        elif labels - known:
            problems.append(f"{name}: has no labels {sorted(labels - known)}")
    return problems


def known_labels(name: str) -> set[str] | None:
    """Returns the labels of a series, None if nobody exports it; histograms are exported in three series."""
    if name in OTHERS:
        return OTHERS[name]
    base, _, suffix = name.rpartition("_")
    if name in EXPORTED and EXPORTED[name]["type"] != "histogram":
        return {*EXPORTED[name]["labels"], *TARGET_LABELS}
    if suffix in ("bucket", "sum", "count") and EXPORTED.get(base, {}).get("type") == "histogram":
        return {*EXPORTED[base]["labels"], *TARGET_LABELS} | ({"le"} if suffix == "bucket" else set())
    return None


@pytest.mark.parametrize("expression", _expressions())
def test_expressions_ask_for_what_is_exported(expression: str) -> None:
    assert _SELECTOR.search(expression)
    assert metric_problems(expression) == []


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param(
            ":tensorflow:serving:request_total", ":tensorflow:serving:request_total: exported by nobody", id="name"
        ),
        pytest.param(
            'tensorflow_serving_request_count{status="OK"}',
            "tensorflow_serving_request_count: exported by nobody",
            id="dots",
        ),
        pytest.param(
            "rate(:tensorflow:serving:request_latency[5m])",
            ":tensorflow:serving:request_latency: exported by nobody",
            id="histogram-without-suffix",
        ),
        pytest.param(
            ':tensorflow:serving:request_count{code="OK"}',
            ":tensorflow:serving:request_count: has no labels ['code']",
            id="label",
        ),
    ],
)
def test_a_wrong_expression_is_found(expression: str, expected: str) -> None:
    assert metric_problems(expression) == [expected]


def test_the_list_of_metrics_is_what_a_real_server_answered() -> None:
    if not ANSWERS.exists():
        pytest.skip(f"{ANSWERS} is absent: the list was not compared with the recorded answers")
    recorded: dict[str, str] = {}
    for line in ANSWERS.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["kind"] == "prometheus":
            for name, metric in record["answer"]["metrics"].items():
                if re.match(":tensorflow:(serving|cc:saved_model):", name):
                    recorded[name] = metric if isinstance(metric, str) else metric["type"]
    assert {name: metric["type"] for name, metric in EXPORTED.items()} == recorded


@pytest.mark.parametrize("name", ["prometheus.yaml", "prometheus-kubernetes.yaml"])
def test_scrapes_keep_what_is_used_and_drop_foreign_model_names(name: str) -> None:
    (job,) = yaml.safe_load((MONITORING / name).read_text(encoding="utf-8"))["scrape_configs"]
    assert job["job_name"] == "fusion-ner"
    by_name, by_model = job["metric_relabel_configs"]
    assert (by_name["action"], by_model["action"]) == ("keep", "keep")
    assert all(re.fullmatch(by_name["regex"], metric) for metric in EXPORTED)
    assert not re.fullmatch(by_name["regex"], ":tensorflow:data:elements")
    kept = [name for name in ("ner", "", "nobody", "nerd") if re.fullmatch(by_model["regex"], name)]
    assert kept == ["ner", ""]


def test_each_alert_is_explained() -> None:
    runbook = (REPOSITORY / "docs/deployment.md").read_text(encoding="utf-8")
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", runbook, re.MULTILINE)}
    for rule in _alerts():
        assert rule["labels"]["severity"] in ("critical", "warning")
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor) == ("docs/deployment.md", rule["alert"].lower())
        assert anchor in headings


def test_promtool_accepts_rules_and_scrapes(tmp_path: Path) -> None:
    promtool = _promtool()
    shutil.copy(MONITORING / "alerts.yaml", tmp_path)
    for name in ("prometheus.yaml", "prometheus-kubernetes.yaml"):
        config = yaml.safe_load((MONITORING / name).read_text(encoding="utf-8"))
        config["rule_files"] = ["alerts.yaml"]
        for job in config["scrape_configs"]:
            # Some builds of promtool are without Kubernetes.
            job.pop("kubernetes_sd_configs", None)
        (tmp_path / name).write_text(yaml.safe_dump(config), encoding="utf-8")
        _run([promtool, "check", "config", str(tmp_path / name)])


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    promtool = _promtool()
    text = (HERE / "alerts_test.yaml").read_text(encoding="utf-8")
    (tmp_path / "alerts_test.yaml").write_text(
        text.replace("ALERTS", str(MONITORING / "alerts.yaml")), encoding="utf-8"
    )
    _run([promtool, "test", "rules", str(tmp_path / "alerts_test.yaml")])


def test_each_alert_has_a_case() -> None:
    (*cases,) = yaml.safe_load((HERE / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    fired = {test["alertname"] for case in cases for test in case["alert_rule_test"] if test.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in _alerts()}


def _promtool() -> str:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian package prometheus) is not installed: the alerts were not evaluated")
    return promtool


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_can_be_drawn() -> None:
    dashboard = _dashboard()
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource", "instance"}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert panel["type"] in ("timeseries", "stat")
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"] in ("none", "reqps", "percentunit", "µs", "bytes")
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        own = {
            (column, row)
            for column in range(place["x"], place["x"] + place["w"])
            for row in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & own, f"{panel['title']} lies over another panel"
        cells |= own


def test_the_autoscaler_asks_for_the_metric_that_the_adapter_makes() -> None:
    (rule,) = yaml.safe_load((MONITORING / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]
    scaler = yaml.safe_load(
        (REPOSITORY / "serving/deploy/kubernetes/components/gpu/autoscaler.yaml").read_text(encoding="utf-8")
    )
    (metric,) = scaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
