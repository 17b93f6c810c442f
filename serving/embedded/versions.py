"""Which versions of a model should be served: version folders and the version policy. Pure but for reading a folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_LARGEST_VERSION = 2**63 - 1


@dataclass(frozen=True)
class ServedModel:
    """A model as configured: name, folder of its versions and policy.

    Attributes:
        latest: number of highest versions to serve; None: the policy is not "latest".
        specific: the versions to serve; None: the policy is not "specific". With neither, all versions are served.
    """

    name: str
    base_path: str
    latest: int | None = 1
    specific: tuple[int, ...] | None = None


def version_folders(base_path: Path) -> dict[int, Path]:
    """Returns the version folders under `base_path` by number; children whose name is no number are passed over.

    Raises:
        FileNotFoundError: `base_path` is no folder.
    """
    folders: dict[int, Path] = {}
    for child in sorted(base_path.iterdir(), key=lambda path: (len(path.name), path.name)):
        # `00000123` is version 123; hidden folders and files in the making have other names.
        if not re.fullmatch(r"[0-9]+", child.name) or int(child.name) > _LARGEST_VERSION or not child.is_dir():
            continue
        version = int(child.name)
        if version in folders:
            logger.warning(
                "Duplicate version directories detected. Version %d will be loaded from %s, %s will be ignored.",
                version,
                folders[version].name,
                child.name,
            )
            continue
        folders[version] = child
    return folders


def aspired_versions(model: ServedModel) -> dict[int, Path]:
    """Returns the versions of `model` that should be served now, with their folders.

    Raises:
        FileNotFoundError: the base path does not exist.
    """
    folders = version_folders(Path(model.base_path))
    aspired = select_versions(model, folders)
    for version in model.specific or ():
        if version not in folders:
            logger.warning(
                "Version %d of servable %s, which was requested to be served as a 'specific' version in the servable's "
                "version policy, was not found in the file system",
                version,
                model.name,
            )
    if not aspired:
        logger.warning(
            "No versions of servable %s found under base path %s. Did you forget to name your leaf directory "
            "as a number (eg. '/1/')?",
            model.name,
            model.base_path,
        )
    return aspired


def select_versions(model: ServedModel, folders: Mapping[int, Path]) -> dict[int, Path]:
    """Returns those of `folders` that the model's policy asks for.

    Example:
        >>> select_versions(ServedModel("ner", "/models/ner"), {1: Path("1"), 2: Path("2")})
        {2: Path("2")}
    """
    if model.specific is not None:
        return {version: folders[version] for version in sorted(set(model.specific)) if version in folders}
    if model.latest is not None:
        return {version: folders[version] for version in sorted(folders, reverse=True)[: model.latest]}
    return dict(folders)


def served_model(config: Any) -> ServedModel:
    """Returns the ServedModel of a tensorflow.serving.ModelConfig."""
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        return ServedModel(config.name, config.base_path, None, tuple(policy.specific.versions))
    if choice == "all":
        return ServedModel(config.name, config.base_path, None)
    return ServedModel(config.name, config.base_path, policy.latest.num_versions or 1)
