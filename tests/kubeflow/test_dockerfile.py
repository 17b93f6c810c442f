"""Reads the Dockerfile against the lock and the package data; it cannot be built where the tests run."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Packages of the project, as setup.py installs them.
PACKAGES = ("components", "pipeline", "serving", "kubeflow", "schemas")
# Files that belong to the source tree only.
NOT_INSTALLED = ("kubeflow/Dockerfile*", "kubeflow/requirements-gpu.txt", "serving/deploy/*")


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """The instructions as (name, rest), continuation lines joined."""
    text = (ROOT / "kubeflow/Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line.strip()]


def _stages(instructions: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Stage name -> its instructions, with those of the stages that it builds on before them."""
    stages: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for name, rest in instructions:
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            current = stages[stage] = list(stages.get(base, []))
        current.append((name, rest))
    return stages


def test_both_targets_are_there_and_the_default_is_without_gpu(instructions: list[tuple[str, str]]) -> None:
    stages = _stages(instructions)
    assert {"cpu", "gpu"} <= set(stages)
    assert list(stages)[-1] == "cpu"


def test_python_is_the_one_of_the_lock(instructions: list[tuple[str, str]]) -> None:
    images = {rest.split()[0] for name, rest in instructions if name == "FROM" and ":" in rest.split()[0]}
    assert images == {"python:3.10.13-slim-bookworm"}
    assert 'python_requires=">=3.10,<3.11"' in (ROOT / "setup.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["project", "project-gpu"])
def test_the_lock_is_installed_and_checked(instructions: list[tuple[str, str]], stage: str) -> None:
    steps = [rest for name, rest in _stages(instructions)[stage] if name == "RUN"]
    lock = next(index for index, step in enumerate(steps) if "requirements.lock" in step)
    assert "--no-deps" in steps[lock]
    project = next(index for index, step in enumerate(steps) if step.endswith(" /build"))
    checks = [index for index, step in enumerate(steps) if step == "pip check"]
    installs = [index for index, step in enumerate(steps) if step.startswith("pip install")]
    assert lock < project < max(checks)
    assert max(installs) < max(checks)
    assert any("compileall" in step for step in steps)
    assert not any("PYTHONDONTWRITEBYTECODE" in rest for _, rest in instructions)


def test_tools_are_those_of_the_set_up(instructions: list[tuple[str, str]]) -> None:
    setup = (ROOT / "scripts/setup").read_text(encoding="utf-8")
    (tools,) = [rest for _, rest in instructions if rest.startswith("pip install pip==")]
    for pin in tools.split()[2:]:
        assert pin in setup


def test_everything_that_is_copied_exists_and_every_package_is_copied(instructions: list[tuple[str, str]]) -> None:
    sources = [
        source
        for name, rest in instructions
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert set(PACKAGES) <= set(sources)
    ignored = (ROOT / "kubeflow/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert {source.split("/")[0] for source in sources} == kept


@pytest.mark.parametrize("stage", ["cpu", "gpu"])
def test_targets_run_as_a_numeric_user(instructions: list[tuple[str, str]], stage: str) -> None:
    users = [rest for name, rest in _stages(instructions)[stage] if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_cuda_libraries_are_those_of_this_tensorflow(instructions: list[tuple[str, str]]) -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    version = importlib.metadata.version("tensorflow")
    assert re.search(rf"(?m)^tensorflow=={re.escape(version)}\b", lock)
    required = importlib.metadata.requires("tensorflow") or []
    pins = {text.split(";")[0].strip(" ()") for text in required if text.startswith("nvidia")}
    lines = (ROOT / "kubeflow/requirements-gpu.txt").read_text(encoding="utf-8").splitlines()
    assert {line for line in lines if not line.startswith("#")} == {re.sub(r"[ ()]", "", pin) for pin in pins}
    environment = " ".join(rest for name, rest in instructions if name == "ENV")
    for line in lines[1:]:
        folder = re.sub(r"^nvidia-|-cu12==.*$", "", line).replace("-", "_")
        # The compiler brings no libraries.
        assert folder == "cuda_nvcc" or f"/{folder}/lib" in environment


def test_package_data_is_installed() -> None:
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    (patterns,) = re.findall(r'package_data=\{"": \[(.*?)\]\}', (ROOT / "setup.py").read_text(encoding="utf-8"))
    globs = [pattern.strip(' "') for pattern in patterns.split(",")]
    left_out = ("*.py", *NOT_INSTALLED)
    data = [path for path in listed.stdout.split() if not any(fnmatch.fnmatch(path, glob) for glob in left_out)]
    assert data, "the schema is package data"
    assert [path for path in data if not any(fnmatch.fnmatch(Path(path).name, glob) for glob in globs)] == []
