"""Renders the overlays as `kustomize build` does, for the part of kustomize that they use.

Only that part: anything else in a kustomization.yaml is an error, so that the tests never look at less than what would
be applied. Where kustomize or kubectl is installed, a test compares with it.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

# The key by which Kubernetes merges a list of mappings, by the field that holds the list.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
}


def render(folder: Path) -> list[Manifest]:
    """Returns the manifests of a kustomization; generated ConfigMaps keep their plain names, without a hash."""
    manifests: list[Manifest] = []
    _accumulate(folder, manifests)
    return manifests


def render_with_kustomize(folder: Path) -> list[Manifest] | None:
    """Returns what kustomize itself renders, hashes in names included; None where it is not installed."""
    if shutil.which("kustomize"):
        command = ["kustomize", "build", str(folder)]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize", str(folder)]
    else:
        return None
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return list(yaml.safe_load_all(output))


def _accumulate(folder: Path, manifests: list[Manifest]) -> None:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    del kustomization["apiVersion"], kustomization["kind"]
    steps: Mapping[str, Callable[[Path, Any, list[Manifest]], None]] = {
        "resources": _add_resource,
        "configMapGenerator": _add_config_map,
        "components": lambda here, name, to: _accumulate(here / name, to),
        "patches": _apply_patch,
    }
    unknown = kustomization.keys() - steps.keys()
    if unknown:
        raise NotImplementedError(f"{folder}/kustomization.yaml: {sorted(unknown)}: this renderer does not know them")
    # kustomize's order, not the file's.
    for name, step in steps.items():
        for entry in kustomization.get(name, []):
            step(folder, entry, manifests)


def _add_resource(folder: Path, name: str, manifests: list[Manifest]) -> None:
    path = folder / name
    if path.is_dir():
        _accumulate(path, manifests)
    else:
        manifests += yaml.safe_load_all(path.read_text(encoding="utf-8"))


def _add_config_map(folder: Path, entry: Any, manifests: list[Manifest]) -> None:
    data = {name: (folder / name).read_text(encoding="utf-8") for name in entry["files"]}
    manifests.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": entry["name"]}, "data": data})


def _apply_patch(folder: Path, entry: Any, manifests: list[Manifest]) -> None:
    if "path" in entry:
        patch = yaml.safe_load((folder / entry["path"]).read_text(encoding="utf-8"))
        index = _find(manifests, patch["kind"], patch["metadata"]["name"])
        manifests[index] = _merge(manifests[index], patch)
        return
    target = manifests[_find(manifests, entry["target"]["kind"], entry["target"]["name"])]
    for operation in yaml.safe_load(entry["patch"]):
        *parents, last = operation["path"].strip("/").split("/")
        if operation["op"] != "add" or last != "-":
            raise NotImplementedError(f"{folder}: {operation}: this renderer only adds to the end of a list")
        place: Any = target
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place[key]
        place.append(operation["value"])


def _find(manifests: list[Manifest], kind: str, name: str) -> int:
    matches = [
        index for index, item in enumerate(manifests) if item["kind"] == kind and item["metadata"]["name"] == name
    ]
    if len(matches) != 1:
        raise LookupError(f"a patch of {kind}/{name}: expected one such manifest; found {len(matches)}")
    return matches[0]


def _merge(old: Any, patch: Any, field: str = "") -> Any:
    """A strategic merge: mappings key by key, lists of mappings item by item where a merge key exists."""
    if isinstance(old, dict) and isinstance(patch, dict):
        merged = copy.deepcopy(old)
        for key, value in patch.items():
            merged[key] = _merge(old[key], value, key) if key in old else copy.deepcopy(value)
        return merged
    if isinstance(old, list) and field in _MERGE_KEYS:
        key = _MERGE_KEYS[field]
        by_key = {item[key]: item for item in old}
        by_key |= {item[key]: _merge(by_key.get(item[key], {}), item) for item in patch}
        return list(by_key.values())
    return copy.deepcopy(patch)
