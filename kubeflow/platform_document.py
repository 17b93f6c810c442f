"""The platform document of a compiled pipeline: node selector, tolerations, volumes and secrets by executor.

The backend reads it with lenient code: an unknown field at the top drops the whole document without a word, and a
misspelt field below an executor fails every run. So the fields are checked here before the upload.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# A type is str, int, bool, [type] for a list, {"*": type} for a mapping with free keys, {name: type} for a message.
_PARAMETER = {
    "runtimeValue": {"constant": object},
    "componentInputParameter": str,
    "taskOutputParameter": {"producerTask": str, "outputParameterKey": str},
}
_POD_METADATA = {"labels": {"*": str}, "annotations": {"*": str}}
_REQUIREMENT = [{"key": str, "operator": str, "values": [str]}]
# kubernetes_platform/proto/kubernetes_executor_config.proto, as of Kubeflow Pipelines 2.17.
EXECUTOR_FIELDS: Mapping[str, Any] = {
    "activeDeadlineSeconds": int,
    "configMapAsEnv": [
        {"configMapName": str, "configMapNameParameter": _PARAMETER, "optional": bool,
         "keyToEnv": [{"configMapKey": str, "envVar": str}]}
    ],
    "configMapAsVolume": [
        {"configMapName": str, "configMapNameParameter": _PARAMETER, "mountPath": str, "optional": bool}
    ],
    "emptyDirMounts": [{"volumeName": str, "mountPath": str, "medium": str, "sizeLimit": str}],
    "enabledSharedMemory": {"volumeName": str, "size": str},
    "fieldPathAsEnv": [{"name": str, "fieldPath": str}],
    "genericEphemeralVolume": [
        {"volumeName": str, "mountPath": str, "accessModes": [str], "size": str, "defaultStorageClass": bool,
         "storageClassName": str, "metadata": _POD_METADATA}
    ],
    "imagePullPolicy": str,
    "imagePullSecret": [{"secretName": str, "secretNameParameter": _PARAMETER}],
    "nodeAffinity": [
        {"matchExpressions": _REQUIREMENT, "matchFields": _REQUIREMENT, "weight": int, "nodeAffinityJson": _PARAMETER}
    ],
    "nodeSelector": {"labels": {"*": str}, "nodeSelectorJson": _PARAMETER},
    "podAffinity": [
        {"matchPodExpressions": _REQUIREMENT, "matchPodLabels": {"*": str}, "topologyKey": str, "namespaces": [str],
         "matchNamespaceExpressions": _REQUIREMENT, "matchNamespaceLabels": {"*": str}, "weight": int, "anti": bool}
    ],
    "podMetadata": _POD_METADATA,
    "pvcMount": [
        {"constant": str, "componentInputParameter": str, "pvcNameParameter": _PARAMETER, "mountPath": str,
         "subPath": str, "taskOutputParameter": {"producerTask": str, "outputParameterKey": str}}
    ],
    "secretAsEnv": [
        {"secretName": str, "secretNameParameter": _PARAMETER, "optional": bool,
         "keyToEnv": [{"secretKey": str, "envVar": str}]}
    ],
    "secretAsVolume": [{"secretName": str, "secretNameParameter": _PARAMETER, "mountPath": str, "optional": bool}],
    "securityContext": {"runAsUser": int, "runAsGroup": int, "runAsNonRoot": bool},
    "tolerations": [
        {"key": str, "operator": str, "value": str, "effect": str, "tolerationSeconds": int,
         "tolerationJson": _PARAMETER}
    ],
}  # fmt: skip
_CHOICES = {
    "imagePullPolicy": ("Always", "Never", "IfNotPresent"),
    "tolerations.operator": ("", "Exists", "Equal"),
    "tolerations.effect": ("", "NoSchedule", "PreferNoSchedule", "NoExecute"),
}


def top_level_faults(document: Any) -> list[str]:
    """Returns what makes the backend drop the whole document silently; empty when it is read."""
    faults: list[str] = []
    executors = document
    for names in (("platforms",), ("kubernetes",), ("deploymentSpec", "deployment_spec"), ("executors",)):
        if not isinstance(executors, Mapping) or not any(name in executors for name in names):
            return [*faults, f"the platform document has no {names[0]!r} where it belongs"]
        faults += [f"the platform document has an unknown field {key!r}" for key in executors if key not in names]
        executors = next(executors[name] for name in names if name in executors)
    if not isinstance(executors, Mapping):
        faults.append("'executors' of the platform document is not a mapping")
    return faults


def executor_settings(document: Any) -> Mapping[str, Any]:
    """Returns the settings by executor label; the document must be free of `top_level_faults`."""
    kubernetes = document["platforms"]["kubernetes"]
    return (kubernetes.get("deploymentSpec") or kubernetes["deployment_spec"])["executors"]


def executor_faults(label: str, settings: Any) -> list[str]:
    """Returns what makes runs fail below one executor: unknown fields, wrong types, impossible values."""
    return _faults(settings, dict(EXECUTOR_FIELDS), label, "")


def _faults(value: Any, expected: Any, where: str, path: str) -> list[str]:
    if expected is object:
        return []
    if isinstance(expected, list):
        if not isinstance(value, list):
            return [f"{where}: expected a list; received {value!r}"]
        return [
            fault for index, item in enumerate(value) for fault in _faults(item, expected[0], f"{where}[{index}]", path)
        ]
    if isinstance(expected, dict):
        if not isinstance(value, Mapping):
            return [f"{where}: expected a mapping; received {value!r}"]
        faults = []
        for key, item in value.items():
            # The backend takes the names of the .proto file, too: pvc_mount for pvcMount.
            name = re.sub(r"_(\w)", lambda match: match[1].upper(), str(key))
            if "*" in expected:
                faults += _faults(item, expected["*"], f"{where}.{key}", path)
            elif name in expected:
                faults += _faults(item, expected[name], f"{where}.{key}", f"{path}.{name}" if path else name)
            else:
                faults.append(f"{where}: unknown field {key!r}; known: {', '.join(sorted(expected))}")
        return faults
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        return [f"{where}: expected {expected.__name__}; received {value!r}"]
    if path in _CHOICES and value not in _CHOICES[path]:
        return [f"{where}: expected one of {', '.join(filter(None, _CHOICES[path]))}; received {value!r}"]
    return []
