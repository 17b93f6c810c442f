"""The Kubernetes manifests: valid by schema, and by what schemas do not see; each such check is shown to fail."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from serving.environment import TENSORFLOW_ENVIRONMENT
from tests.serving.deploy.kustomize import render, render_with_kustomize
from tests.serving.deploy.manifest_checks import (
    deployment_of,
    of_kind,
    pod_of,
    problems,
    server_of,
)
from tests.serving.deploy.serving_protos import parse_text

OVERLAYS = Path(__file__).resolve().parents[3] / "serving/deploy/kubernetes/overlays"
NAMES = sorted(folder.name for folder in OVERLAYS.iterdir())
KUBERNETES_VERSION = "1.30"

Manifests = list[dict[str, Any]]


@cache
def _rendered(name: str) -> Manifests:
    return render(OVERLAYS / name)


def _validate(manifests: Manifests) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


@pytest.fixture(params=NAMES)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return copy.deepcopy(_rendered(request.param))


def test_each_target_has_an_overlay() -> None:
    assert NAMES == ["cpu", "cpu-object-store", "cpu-tls", "gpu", "gpu-object-store"]


def test_manifests_follow_the_schemas(manifests: Manifests) -> None:
    _validate(manifests)


def test_manifests_are_consistent(manifests: Manifests) -> None:
    assert problems(manifests) == []


def test_manifests_are_not_repeated(manifests: Manifests) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", NAMES)
def test_kustomize_renders_the_same(name: str) -> None:
    rendered = render_with_kustomize(OVERLAYS / name)
    if rendered is None:
        pytest.skip("neither kustomize nor kubectl is installed: the rendered overlays were compared with nothing")

    def plain(manifest: Any) -> Any:
        """Names of ConfigMaps without the hash of their contents; lists by name in one order."""
        if isinstance(manifest, dict):
            return {key: plain(value) for key, value in manifest.items()}
        if isinstance(manifest, list):
            items = [plain(item) for item in manifest]
            return sorted(items, key=lambda item: item["name"]) if _all_named(items) else items
        if isinstance(manifest, str):
            return re.sub(r"^(fusion-ner-(?:config|sync))-[a-z0-9]{10}$", r"\1", manifest)
        return manifest

    def by_name(items: Manifests) -> dict[tuple[str, str], Any]:
        return {(item["kind"], plain(item["metadata"]["name"])): plain(item) for item in items}

    assert by_name(_rendered(name)) == by_name(rendered)


def _all_named(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, dict) and "name" in item for item in items)


@pytest.mark.parametrize("name", NAMES)
def test_probes_ask_for_the_model_that_the_configuration_names(name: str) -> None:
    manifests = _rendered(name)
    (config,) = (item for item in of_kind(manifests, "ConfigMap") if item["metadata"]["name"] == "fusion-ner-config")
    (model,) = parse_text(config["data"]["models.pbtxt"], "ModelServerConfig").model_config_list.config
    server = server_of(manifests)
    paths = {probe: server[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {
        "startupProbe": f"/v1/models/{model.name}",
        "readinessProbe": f"/v1/models/{model.name}/metadata",
        "livenessProbe": f"/v1/models/{model.name}",
    }
    mounted = [mount["mountPath"] for mount in server["volumeMounts"]]
    assert model.base_path.rpartition("/")[0] in mounted


def test_only_the_gpu_overlays_ask_for_a_gpu() -> None:
    asks = {name for name in NAMES if "nvidia.com/gpu" in server_of(_rendered(name))["resources"]["limits"]}
    assert asks == {"gpu", "gpu-object-store"}


def test_tensorflow_is_set_up_as_by_fusion_ner(manifests: Manifests) -> None:
    environment = {variable["name"]: variable.get("value") for variable in server_of(manifests)["env"]}
    assert environment.items() >= TENSORFLOW_ENVIRONMENT.items()


def test_tls_reads_the_mounted_secret() -> None:
    assert "--ssl_config_file=/tls/ssl.pbtxt" in server_of(_rendered("cpu-tls"))["args"]


def _volume(manifests: Manifests, name: str) -> dict[str, Any]:
    (volume,) = (item for item in pod_of(manifests)["volumes"] if item["name"] == name)
    return volume


BREAKAGES: list[Any] = [
    pytest.param(
        lambda m: _volume(m, "models")["persistentVolumeClaim"].update(claimName="modles"),
        "PersistentVolumeClaim modles: expected one of ['fusion-ner-models']",
        id="claim-does-not-exist",
    ),
    pytest.param(
        lambda m: _volume(m, "models").update(emptyDir={}), "volume models: expected one source", id="two-sources"
    ),
    pytest.param(
        lambda m: server_of(m)["volumeMounts"][0].update(name="confg"),
        "mount confg is no volume",
        id="mount-of-nothing",
    ),
    pytest.param(
        lambda m: of_kind(m, "Service")[0]["spec"]["selector"].update({"app.kubernetes.io/name": "ner"}),
        "Service fusion-ner: selector",
        id="service-selects-nothing",
    ),
    pytest.param(
        lambda m: of_kind(m, "HorizontalPodAutoscaler")[0]["spec"]["scaleTargetRef"].update(kind="StatefulSet"),
        "no StatefulSet fusion-ner",
        id="autoscaler-of-the-wrong-kind",
    ),
    pytest.param(
        lambda m: deployment_of(m)["spec"].update(replicas=3),
        "replicas beside an autoscaler",
        id="replicas-and-autoscaler",
    ),
    pytest.param(
        lambda m: server_of(m)["readinessProbe"]["httpGet"].update(port=99999),
        "readinessProbe: port 99999",
        id="probe-of-a-closed-port",
    ),
    pytest.param(
        lambda m: of_kind(m, "Service")[0]["spec"]["ports"][0].update(targetPort="http"),
        "Service fusion-ner: port http",
        id="service-of-a-port-name-that-is-not",
    ),
    pytest.param(
        lambda m: server_of(m)["ports"][0].update(containerPort=9000),
        "the flags open [8500, 8501]",
        id="port-not-opened",
    ),
    pytest.param(
        lambda m: server_of(m)["resources"]["requests"].update({"nvidia.com/gpu": 1}),
        "nvidia.com/gpu belongs under limits",
        id="gpu-under-requests-only",
    ),
    pytest.param(
        lambda m: server_of(m)["resources"]["limits"].update(cpu="2"),
        "4 intra-op threads on a CPU limit of 2",
        id="threads",
    ),
    pytest.param(lambda m: server_of(m).update(image="tensorflow/serving:latest"), "is not pinned", id="image-latest"),
    pytest.param(lambda m: server_of(m).update(image="tensorflow/serving"), "is not pinned", id="image-without-tag"),
    pytest.param(lambda m: pod_of(m)["securityContext"].update(runAsUser=0), "a runAsUser other than 0", id="root"),
    pytest.param(
        lambda m: server_of(m)["securityContext"].update(readOnlyRootFilesystem=False),
        "expected readOnlyRootFilesystem",
        id="writable-root",
    ),
    pytest.param(
        lambda m: server_of(m)["args"].append("--enable_baching=true"),
        "--enable_baching=true: no flag",
        id="unknown-flag",
    ),
    pytest.param(
        lambda m: server_of(m)["args"].append("--platform_config_file=/config/platform.pbtxt"),
        "no such file in the pod",
        id="flag-names-a-file-that-is-not-mounted",
    ),
    pytest.param(
        lambda m: server_of(m)["lifecycle"]["preStop"]["exec"].update(command=["sleep", "15"]),
        "expected a sleep of at least 96 s",
        id="drains-too-briefly",
    ),
    pytest.param(
        lambda m: pod_of(m).update(terminationGracePeriodSeconds=100),
        "expected at least 110",
        id="killed-while-draining",
    ),
    pytest.param(
        lambda m: pod_of(m).update(shareProcessNamespace=False), "never sees SIGTERM", id="server-is-process-1"
    ),
    pytest.param(
        lambda m: deployment_of(m)["spec"].update(progressDeadlineSeconds=600), "more than the 600 s", id="deadline"
    ),
]


@pytest.mark.parametrize(("break_it", "expected"), BREAKAGES)
def test_a_broken_manifest_is_found(break_it: Callable[[Manifests], Any], expected: str) -> None:
    manifests = copy.deepcopy(_rendered("cpu"))
    break_it(manifests)
    assert [problem for problem in problems(manifests) if expected in problem]


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda m: deployment_of(m)["spec"].update(replicas="one"), id="wrong-type"),
        pytest.param(
            lambda m: of_kind(m, "HorizontalPodAutoscaler")[0]["spec"].update(maxReplica=3), id="unknown-field"
        ),
    ],
)
def test_the_schemas_are_applied(break_it: Callable[[Manifests], Any]) -> None:
    manifests = copy.deepcopy(_rendered("cpu"))
    break_it(manifests)
    with pytest.raises(kubernetes_validate.ValidationError):
        _validate(manifests)
