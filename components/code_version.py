"""Which code is running: the package's version and, in a checkout, its commit; and the versions of the libraries."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import subprocess

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_LIBRARIES = ("tensorflow", "tensorflow-text", "tfx", "tensorflow-transform", "apache-beam", "numpy")

# Set where the code is installed without its repository, as in an image.
COMMIT_VARIABLE = "FUSION_NER_COMMIT"


@dataclasses.dataclass(frozen=True)
class CodeVersion:
    """The code that runs.

    Args:
        version: of the package; None if it is not installed.
        commit: of the checkout, or what $FUSION_NER_COMMIT says; None if neither is there.
        modified: whether tracked files differ from the commit; None if that is unknown.
    """

    version: str | None
    commit: str | None
    modified: bool | None


def code_version() -> CodeVersion:
    """Returns the version of the code that runs."""
    commit = os.environ.get(COMMIT_VARIABLE) or None
    modified = None
    if commit is None and (_ROOT / ".git").exists():
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
        modified = None if changes is None else bool(changes)
    return CodeVersion(_installed("fusion-ner"), commit, modified)


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that a model depends on."""
    found = {name: _installed(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), **{name: version for name, version in found.items() if version}}


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*words: str) -> str | None:
    try:
        process = subprocess.run(
            ["git", "-C", str(_ROOT), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()
