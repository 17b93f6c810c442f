"""Settings of the pipeline on Kubeflow: resources, places and volumes of its tasks."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Mapping

from components.settings import check


@dataclasses.dataclass(frozen=True)
class TolerationSettings:
    """A taint of nodes that a task tolerates; the fields are those of Kubernetes.

    Args:
        key: of the taint.
        operator: Exists tolerates any value, Equal the given one.
        value: of the taint, for Equal.
        effect: NoSchedule, PreferNoSchedule or NoExecute; "" tolerates all of them.

    Raises:
        SettingsError: a value that Kubernetes does not know.
    """

    key: str
    operator: str = "Exists"
    value: str = ""
    effect: str = ""

    def __post_init__(self) -> None:
        check(self.operator in ("Exists", "Equal"), "operator", "Exists or Equal", self.operator)
        effects = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
        check(self.effect in effects, "effect", ", ".join(effects[1:]) + " or nothing for all", self.effect)
        check(self.operator == "Equal" or not self.value, "value", "none where the operator is Exists", self.value)


@dataclasses.dataclass(frozen=True)
class ComponentSettings:
    """What one component asks of the cluster.

    Args:
        cpu: limit in cores; None leaves the default of `kubeflow.compile` for the kind of component.
        memory: limit in gigabytes (10^9 bytes); None likewise.
        gpus: number of accelerators; None likewise.
        gpu_type: the resource name of the accelerators.
        node_selector: labels that the node must bear.
        tolerations: taints that the component tolerates.
        cache: whether an earlier execution with the same inputs may be taken; None follows the pipeline. ExampleGen is
            never cached, because the backend's key does not cover the data.

    Raises:
        SettingsError: a value is impossible.
    """

    cpu: float | None = None
    memory: float | None = None
    gpus: int | None = None
    gpu_type: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tolerations: tuple[TolerationSettings, ...] = ()
    cache: bool | None = None

    def __post_init__(self) -> None:
        check(self.cpu is None or self.cpu > 0, "cpu", "a positive number of cores", self.cpu)
        check(self.memory is None or self.memory > 0, "memory", "a positive number of gigabytes", self.memory)
        check(self.gpus is None or self.gpus >= 0, "gpus", "a number from 0 on", self.gpus)
        check("/" in self.gpu_type, "gpu_type", "a resource name such as nvidia.com/gpu", self.gpu_type)


@dataclasses.dataclass(frozen=True)
class VolumeSettings:
    """A persistent volume claim that every task mounts, because data and served models lie outside the object store.

    Args:
        claim: name of the claim, in the namespace of the runs.
        mount: absolute path in the containers.

    Raises:
        SettingsError: the path is not absolute.
    """

    claim: str
    mount: str

    def __post_init__(self) -> None:
        check(bool(self.claim), "claim", "the name of a claim", self.claim)
        absolute = posixpath.isabs(self.mount) and posixpath.normpath(self.mount) not in ("/", "//")
        check(absolute, "mount", "an absolute path below /", self.mount)


@dataclasses.dataclass(frozen=True)
class KubeflowSettings:
    """How the pipeline is laid out on a cluster.

    Args:
        components: what single components ask for, by component id.
        volumes: claims that every task mounts. Files below a mount are not looked for when the pipeline is compiled.
        image_pull_policy: Always, IfNotPresent or Never; "" leaves it to the cluster.
        image_pull_secret: name of a secret with the registry's account; "" for none.
        exit_handler: whether a task at the end of each run, also of a failed one, reports how it ended. It makes the
            pipeline a DAG within a DAG; without it the tasks stand in the root.
        notify_url: receives a JSON object at the end of each run, by POST; "" only logs it. A runtime parameter.

    Raises:
        SettingsError: a value is impossible.
    """

    components: Mapping[str, ComponentSettings] = dataclasses.field(default_factory=dict)
    volumes: tuple[VolumeSettings, ...] = ()
    image_pull_policy: str = ""
    image_pull_secret: str = ""
    exit_handler: bool = True
    notify_url: str = ""

    def __post_init__(self) -> None:
        policies = ("", "Always", "IfNotPresent", "Never")
        check(self.image_pull_policy in policies, "image_pull_policy", ", ".join(policies[1:]), self.image_pull_policy)
        mounts = [posixpath.normpath(volume.mount) for volume in self.volumes]
        check(len(set(mounts)) == len(mounts), "volumes", "a mount path for each claim", mounts)
        is_url = self.notify_url.startswith(("http://", "https://"))
        check(self.exit_handler or not self.notify_url, "notify_url", "nothing without exit_handler", self.notify_url)
        check(not self.notify_url or is_url, "notify_url", "an http:// or https:// URL", self.notify_url)

    def is_mounted(self, path: str) -> bool:
        """Whether `path` lies on one of the volumes."""
        normal = posixpath.normpath(path)
        mounts = [posixpath.normpath(volume.mount) for volume in self.volumes]
        return any(normal == mount or normal.startswith(mount + "/") for mount in mounts)
