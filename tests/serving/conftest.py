"""Fixtures of the serving tests: model folders, and the servers that every test of a server runs on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# The helpers beside this file are modules of their own, not tests.
sys.path.insert(0, str(HERE))

from server_processes import Launcher, ProgramLauncher, ZygoteLauncher  # noqa: E402


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the SavedModels of make_models.py, built in a process of its own."""
    folder = tmp_path_factory.mktemp("models")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, str(HERE / "make_models.py"), str(folder)], check=True, env=environment)
    return folder


@pytest.fixture(scope="session")
def embedded_launcher() -> Iterator[Launcher]:
    """Starts embedded servers."""
    launcher = ZygoteLauncher()
    yield launcher
    launcher.close()


@pytest.fixture(
    scope="session", params=["embedded", pytest.param("tensorflow_model_server", marks=pytest.mark.tfserving)]
)
def launcher(request: pytest.FixtureRequest) -> Launcher:
    """Starts servers: the embedded one always, and TensorFlow Serving itself where it is found."""
    if request.param == "embedded":
        return request.getfixturevalue("embedded_launcher")
    found = shutil.which(os.environ.get("TENSORFLOW_MODEL_SERVER") or "tensorflow_model_server")
    if found is None:
        pytest.skip("tensorflow_model_server is neither at $TENSORFLOW_MODEL_SERVER nor on the PATH")
    return ProgramLauncher(found)
