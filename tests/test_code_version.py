"""Which code runs: from the checkout, from the environment, or unknown."""

from __future__ import annotations

import importlib.metadata
import subprocess

import pytest

from components import code_version
from components.code_version import CodeVersion

VERSION = importlib.metadata.version("fusion-ner")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout with one commit in the place of this project's."""

    def git(*words: str) -> str:
        identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    monkeypatch.setattr(code_version, "_ROOT", tmp_path)
    monkeypatch.delenv(code_version.COMMIT_VARIABLE, raising=False)
    git("init")
    (tmp_path / "file").write_text("1", encoding="utf-8")
    git("add", "file")
    git("commit", "-m", "first")
    return tmp_path, git("rev-parse", "HEAD")


def test_a_checkout_is_known_by_its_commit(repository):
    folder, commit = repository
    (folder / "untracked").write_text("1", encoding="utf-8")
    assert code_version.code_version() == CodeVersion(VERSION, commit, False)

    (folder / "file").write_text("2", encoding="utf-8")
    assert code_version.code_version() == CodeVersion(VERSION, commit, True)


def test_an_image_says_its_commit_by_a_variable(tmp_path, monkeypatch):
    monkeypatch.setattr(code_version, "_ROOT", tmp_path)
    monkeypatch.setenv(code_version.COMMIT_VARIABLE, "abc")

    assert code_version.code_version() == CodeVersion(VERSION, "abc", None)


def test_without_either_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(code_version, "_ROOT", tmp_path)
    monkeypatch.delenv(code_version.COMMIT_VARIABLE, raising=False)

    assert code_version.code_version() == CodeVersion(VERSION, None, None)


def test_the_libraries_have_versions():
    versions = code_version.library_versions()

    assert {"python", "tensorflow", "tfx"} <= set(versions)
