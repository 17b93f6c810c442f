"""The sidecar that downloads versions from an object store, run on folders; rclone itself where it is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "serving/deploy/kubernetes/components/object-store/sync_models.sh"

# What the script asks of rclone, on folders.
_STAND_IN = """#!/bin/sh
case "$1" in
  lsf) shift; for word; do folder=$word; done; cd "$folder" && find . -maxdepth 1 -type f | sed 's#^./##' ;;
  copy) mkdir -p "$3" && cp -r "$2"/. "$3" ;;
  *) echo "unknown: $*" >&2; exit 2 ;;
esac
"""

Sync = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=["stand-in", "rclone"])
def program_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    if request.param == "rclone":
        found = shutil.which("rclone")
        if found is None:
            pytest.skip("rclone is not installed: the script ran with a stand-in for it only")
        (folder / "rclone").symlink_to(found)
    else:
        (folder / "rclone").write_text(_STAND_IN, encoding="ascii")
        (folder / "rclone").chmod(0o755)
    return folder


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote"
    folder.mkdir()
    return folder


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return tmp_path / "models/ner"


@pytest.fixture
def environment(program_folder: Path, remote: Path, local: Path) -> dict[str, str]:
    return {
        "PATH": f"{program_folder}:{os.environ['PATH']}",
        "MODEL_REMOTE": str(remote),
        "MODEL_DIRECTORY": str(local),
        "RCLONE_CONFIG": str(local.parent / "rclone.conf"),
        "POLL_SECONDS": "0",
    }


@pytest.fixture
def sync(environment: dict[str, str]) -> Sync:
    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", str(SCRIPT)], env=environment | more, capture_output=True, text=True, timeout=30)

    return run


def _upload(remote: Path, version: int, *, complete: bool = True) -> None:
    (remote / str(version) / "variables").mkdir(parents=True)
    (remote / str(version) / "saved_model.pb").write_text(f"graph {version}", encoding="ascii")
    (remote / str(version) / "variables/variables.index").write_text("index", encoding="ascii")
    if complete:
        (remote / f"{version}.complete").touch()


def _versions(local: Path) -> list[str]:
    return sorted(os.listdir(local))


def test_the_newest_complete_versions_come(sync: Sync, remote: Path, local: Path) -> None:
    for version in (8, 9, 10):
        _upload(remote, version)
    _upload(remote, 11, complete=False)
    assert sync().returncode == 0
    assert _versions(local) == ["10", "9"]
    assert (local / "10/saved_model.pb").read_text(encoding="ascii") == "graph 10"
    assert (local / "10/variables/variables.index").exists()


def test_a_version_appears_once_its_marker_does(sync: Sync, remote: Path, local: Path) -> None:
    _upload(remote, 1)
    _upload(remote, 2, complete=False)
    assert sync().returncode == 0
    assert _versions(local) == ["1"]
    (remote / "2.complete").touch()
    assert sync().returncode == 0
    assert _versions(local) == ["1", "2"]


def test_rolling_back_removes_what_lost_its_marker(sync: Sync, remote: Path, local: Path) -> None:
    for version in (1, 2):
        _upload(remote, version)
    sync()
    (remote / "2.complete").unlink()
    assert sync().returncode == 0
    assert _versions(local) == ["1"]


def test_old_versions_go(sync: Sync, remote: Path, local: Path) -> None:
    for version in (1, 2, 3):
        _upload(remote, version)
        assert sync(KEEP_VERSIONS="1").returncode == 0
        assert _versions(local) == [str(version)]


@pytest.mark.parametrize("outage", ["gone", "empty"])
def test_an_outage_removes_nothing(sync: Sync, remote: Path, local: Path, outage: str) -> None:
    _upload(remote, 1)
    sync()
    shutil.rmtree(remote)
    if outage == "empty":
        remote.mkdir()
    done = sync()
    assert done.returncode != 0
    assert "what is here stays" in done.stdout
    assert _versions(local) == ["1"]


@pytest.mark.parametrize("missing", ["saved_model.pb", "variables/variables.index"])
def test_a_version_that_is_not_whole_is_left_out(sync: Sync, remote: Path, local: Path, missing: str) -> None:
    _upload(remote, 1)
    sync()
    _upload(remote, 2)
    (remote / "2" / missing).unlink()
    done = sync()
    assert done.returncode != 0
    assert "version 2 could not be downloaded" in done.stdout
    assert _versions(local) == ["1"]


def test_an_interrupted_download_is_begun_anew(sync: Sync, remote: Path, local: Path) -> None:
    _upload(remote, 1)
    (local / ".incoming-1").mkdir(parents=True)
    (local / ".incoming-1/half").touch()
    assert sync().returncode == 0
    assert _versions(local) == ["1"]
    assert not (local / "1/half").exists()


def test_it_polls_until_it_is_stopped(environment: dict[str, str], remote: Path, local: Path) -> None:
    process = subprocess.Popen(["sh", str(SCRIPT)], env=environment | {"POLL_SECONDS": "1"}, stdout=subprocess.DEVNULL)
    try:
        _upload(remote, 1)
        deadline = time.monotonic() + 20
        while not (local / "1/saved_model.pb").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _versions(local) == ["1"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", ["MODEL_REMOTE", "MODEL_DIRECTORY"])
def test_a_setting_that_is_missing_is_named(sync: Sync, name: str) -> None:
    done = sync(**{name: ""})
    assert done.returncode != 0
    assert name in done.stderr
