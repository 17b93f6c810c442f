"""What a schema cannot see in Kubernetes manifests: names that lead nowhere, ports nobody listens on, weak security."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from serving.deploy.server_flags import flag_problems, flag_values

Manifest = dict[str, Any]
Check = Callable[[Sequence[Manifest]], Iterator[str]]

# Made by the administrator, since they hold keys; docs/deployment.md tells how.
EXTERNAL_SECRETS = {"fusion-ner-object-store", "fusion-ner-tls"}
_GPU = "nvidia.com/gpu"


def problems(manifests: Sequence[Manifest]) -> list[str]:
    """Returns what is wrong with the manifests of one deployment, taken together; empty if nothing."""
    return [problem for check in CHECKS for problem in check(manifests)]


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    """Returns the manifests of one kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def deployment_of(manifests: Sequence[Manifest]) -> Manifest:
    """Returns the one Deployment."""
    (deployment,) = of_kind(manifests, "Deployment")
    return deployment


def pod_of(manifests: Sequence[Manifest]) -> Manifest:
    """Returns the pod specification of the one Deployment."""
    return deployment_of(manifests)["spec"]["template"]["spec"]


def containers_of(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Returns all containers of the one Deployment, sidecars included."""
    pod = pod_of(manifests)
    return [*pod.get("initContainers", []), *pod["containers"]]


def server_of(manifests: Sequence[Manifest]) -> Manifest:
    """Returns the container of the model server."""
    (server,) = (item for item in containers_of(manifests) if item["name"] == "server")
    return server


def _names(manifests: Sequence[Manifest], kind: str) -> set[str]:
    return {manifest["metadata"]["name"] for manifest in of_kind(manifests, kind)}


def references(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Volumes and environment name claims, ConfigMaps, Secrets and accounts that exist."""
    pod = pod_of(manifests)
    wanted: list[tuple[str, str]] = [("ServiceAccount", pod["serviceAccountName"])]
    for volume in pod["volumes"]:
        if "persistentVolumeClaim" in volume:
            wanted.append(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
        if "configMap" in volume:
            wanted.append(("ConfigMap", volume["configMap"]["name"]))
        if "secret" in volume:
            wanted.append(("Secret", volume["secret"]["secretName"]))
    for container in containers_of(manifests):
        for source in container.get("envFrom", []):
            wanted.append(("Secret", source["secretRef"]["name"]))
    for kind, name in wanted:
        known = _names(manifests, kind) | (EXTERNAL_SECRETS if kind == "Secret" else set())
        if name not in known:
            yield f"{kind} {name}: expected one of {sorted(known)}"


def mounts(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Mounts name volumes of one source each, volumes are mounted, and no path is mounted twice."""
    pod = pod_of(manifests)
    sources = {volume["name"]: len(volume) - 1 for volume in pod["volumes"]}
    used = set()
    for container in containers_of(manifests):
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        if len(set(paths)) < len(paths):
            yield f"container {container['name']}: a path is mounted twice in {paths}"
        for mount in container["volumeMounts"]:
            used.add(mount["name"])
            if mount["name"] not in sources:
                yield f"container {container['name']}: mount {mount['name']} is no volume"
    for name, count in sources.items():
        if count != 1:
            yield f"volume {name}: expected one source; found {count}"
        if name not in used:
            yield f"volume {name}: mounted nowhere"


def selectors(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Whatever selects our pods selects the labels of the template."""
    deployment = deployment_of(manifests)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    found = [("Deployment", deployment["spec"]["selector"]["matchLabels"])]
    found += [
        (f"Service {item['metadata']['name']}", item["spec"]["selector"]) for item in of_kind(manifests, "Service")
    ]
    found += [
        ("PodDisruptionBudget", item["spec"]["selector"]["matchLabels"])
        for item in of_kind(manifests, "PodDisruptionBudget")
    ]
    found += [
        ("NetworkPolicy", item["spec"]["podSelector"]["matchLabels"]) for item in of_kind(manifests, "NetworkPolicy")
    ]
    found += [
        ("topologySpreadConstraints", item["labelSelector"]["matchLabels"])
        for item in pod_of(manifests)["topologySpreadConstraints"]
    ]
    for what, selector in found:
        if not selector or not selector.items() <= labels.items():
            yield f"{what}: selector {selector} does not select the pods, which carry {labels}"


def autoscaling(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The autoscaler scales a manifest that exists, alone, and on a container that exists and requests the resource."""
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if not any(
            (item["kind"], item["apiVersion"], item["metadata"]["name"])
            == (target["kind"], target["apiVersion"], target["name"])
            for item in manifests
        ):
            yield f"HorizontalPodAutoscaler: no {target['kind']} {target['name']} ({target['apiVersion']})"
        if not 2 <= scaler["spec"]["minReplicas"] <= scaler["spec"]["maxReplicas"]:
            yield "HorizontalPodAutoscaler: expected 2 <= minReplicas <= maxReplicas; one replica cannot be replaced"
        for metric in scaler["spec"]["metrics"]:
            resource = metric.get("containerResource")
            if resource and not any(
                container["name"] == resource["container"] and resource["name"] in container["resources"]["requests"]
                for container in containers_of(manifests)
            ):
                yield f"HorizontalPodAutoscaler: no container {resource['container']} requests {resource['name']}"
    if "replicas" in deployment_of(manifests)["spec"]:
        yield "Deployment: replicas beside an autoscaler: each apply would reset them"


def ports(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Probes, Services and policies name ports that the container has and the server opens."""
    server = server_of(manifests)
    by_name = {port["name"]: port["containerPort"] for port in server["ports"]}
    for name, number in by_name.items():
        if len(name) > 15 or not 1 <= number <= 65535:
            yield f"port {name}={number}: expected a name of at most 15 characters and a number of 1 to 65535"
    flags = flag_values(server["args"])
    opened = {int(flags["port"]), int(flags["rest_api_port"])}
    if set(by_name.values()) != opened:
        yield f"ports {sorted(by_name.values())}: the flags open {sorted(opened)}"
    uses = [(probe, server[probe]["httpGet"]["port"]) for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    for service in of_kind(manifests, "Service"):
        uses += [(f"Service {service['metadata']['name']}", port["targetPort"]) for port in service["spec"]["ports"]]
    for policy in of_kind(manifests, "NetworkPolicy"):
        uses += [("NetworkPolicy", port["port"]) for rule in policy["spec"]["ingress"] for port in rule["ports"]]
    for what, port in uses:
        if port not in by_name and port not in by_name.values():
            yield f"{what}: port {port} is none of the container's: {by_name}"


def resources(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Memory is limited, a GPU stands under limits, and TensorFlow's threads equal the CPU limit."""
    for container in containers_of(manifests):
        limits, requests = (container["resources"].get(kind, {}) for kind in ("limits", "requests"))
        if "memory" not in limits or "cpu" not in requests:
            yield f"container {container['name']}: expected a memory limit and a CPU request"
        if _GPU in requests and requests[_GPU] != limits.get(_GPU):
            yield f"container {container['name']}: {_GPU} belongs under limits; a request must equal it"
    server = server_of(manifests)
    threads = flag_values(server["args"]).get("tensorflow_intra_op_parallelism")
    if threads != server["resources"]["limits"].get("cpu"):
        yield f"server: {threads} intra-op threads on a CPU limit of {server['resources']['limits'].get('cpu')}"
    if (_GPU in server["resources"]["limits"]) != server["image"].endswith("-gpu"):
        yield f"server: image {server['image']} and {_GPU} do not go together"


def images(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Images carry a tag of one release."""
    for container in containers_of(manifests):
        if not is_pinned(container["image"]):
            yield f"container {container['name']}: image {container['image']} is not pinned"


def is_pinned(image: str) -> bool:
    """Whether `image` names one release by tag or digest."""
    tag = image.rpartition("/")[2].partition(":")[2]
    return "@sha256:" in image or any(character.isdigit() for character in tag)


def pod_security(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The rules of the Pod Security Standard "restricted", and a read-only root file system with a writable /tmp."""
    pod = pod_of(manifests)
    context = pod["securityContext"]
    if not context.get("runAsNonRoot") or not context.get("runAsUser"):
        yield "pod: expected runAsNonRoot and a runAsUser other than 0"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "pod: expected seccompProfile RuntimeDefault"
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"pod: {name} is not allowed"
    if any("hostPath" in volume for volume in pod["volumes"]):
        yield "pod: hostPath is not allowed"
    if pod.get("automountServiceAccountToken", True):
        yield "pod: expected automountServiceAccountToken: false"
    for container in containers_of(manifests):
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation", True) or own.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"container {container['name']}: expected no privilege escalation and no capabilities"
        if not own.get("readOnlyRootFilesystem"):
            yield f"container {container['name']}: expected readOnlyRootFilesystem"
        if not any(mount["mountPath"] == "/tmp" and not mount.get("readOnly") for mount in container["volumeMounts"]):
            yield f"container {container['name']}: expected a writable /tmp"


def flags(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The server's flags exist, and the files that they name are mounted."""
    server = server_of(manifests)
    if server.get("command") != ["tensorflow_model_server"]:
        yield f"server: command {server.get('command')}: the image's script would add flags of its own"
    yield from flag_problems(server["args"])
    volumes = {mount["mountPath"]: mount["name"] for mount in server["volumeMounts"]}
    sources = {volume["name"]: volume for volume in pod_of(manifests)["volumes"]}
    data = {item["metadata"]["name"]: item["data"] for item in of_kind(manifests, "ConfigMap")}
    for name, value in flag_values(server["args"]).items():
        if not name.endswith("_file"):
            continue
        folder, _, file = value.rpartition("/")
        source = sources.get(volumes.get(folder, ""), {})
        in_config_map = file in data.get(source.get("configMap", {}).get("name"), {})
        if not in_config_map and "secret" not in source:
            yield f"--{name}={value}: no such file in the pod"


def draining(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A stopping pod outlives the connections of its clients, and SIGTERM reaches the server."""
    pod, server = pod_of(manifests), server_of(manifests)
    arguments = flag_values(server["args"])["grpc_channel_arguments"].split(",")
    channel = {key: int(value) / 1000 for key, _, value in (item.partition("=") for item in arguments)}
    # gRPC spreads the age by 10 % either way.
    gone = channel["grpc.max_connection_age_ms"] * 1.1 + channel["grpc.max_connection_age_grace_ms"]
    sleep, seconds = server["lifecycle"]["preStop"]["exec"]["command"]
    if sleep != "sleep" or int(seconds) < gone:
        yield f"preStop: expected a sleep of at least {gone:g} s, when the last connection has gone; found {seconds}"
    if pod["terminationGracePeriodSeconds"] < int(seconds) + 10:
        yield f"terminationGracePeriodSeconds: expected at least {int(seconds) + 10}, 10 s more than preStop sleeps"
    if not pod.get("shareProcessNamespace"):
        yield "pod: without shareProcessNamespace the server is process 1 and never sees SIGTERM"


def rollout(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A slow start is given the time that its probe grants."""
    deployment, probe = deployment_of(manifests), server_of(manifests)["startupProbe"]
    window = probe["periodSeconds"] * probe["failureThreshold"]
    if deployment["spec"]["progressDeadlineSeconds"] <= window:
        yield f"progressDeadlineSeconds: expected more than the {window} s of the startup probe"


CHECKS: Sequence[Check] = (
    references,
    mounts,
    selectors,
    autoscaling,
    ports,
    resources,
    images,
    pod_security,
    flags,
    draining,
    rollout,
)
