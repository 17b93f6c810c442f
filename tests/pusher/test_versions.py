"""Version numbers: what TF Serving sees, and that a number is never used twice."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies

from components.pusher.versions import (
    HIGHEST_VERSION_FILE,
    LARGEST_VERSION,
    VersionError,
    list_versions,
    next_version,
    parse_version,
    read_highest_version,
    write_highest_version,
)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        pytest.param("1763950000", 1763950000, id="unix seconds"),
        pytest.param("0", 0, id="zero"),
        pytest.param("00000123", 123, id="leading zeros"),
        pytest.param(str(LARGEST_VERSION), LARGEST_VERSION, id="largest int64"),
        pytest.param(str(LARGEST_VERSION + 1), None, id="above int64"),
        pytest.param(".incoming-17", None, id="push under way"),
        pytest.param("17.tmp", None, id="suffix"),
        pytest.param("-5", None, id="negative"),
        pytest.param("１７", None, id="full-width digits"),
        pytest.param("²", None, id="superscript"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_names_of_versions(name, version):
    assert parse_version(name) == version


def test_only_numbered_folders_are_versions(tmp_path):
    for name in ("20", "003", ".incoming-1", "latest"):
        (tmp_path / name).mkdir()
    (tmp_path / "30").write_text("a file")

    assert list_versions(tmp_path) == (3, 20)
    assert list_versions(tmp_path / "missing") == ()


@hypothesis.given(
    used=strategies.lists(strategies.integers(0, LARGEST_VERSION - 1)),
    seconds=strategies.floats(-1e9, 1e12, allow_nan=False),
)
def test_next_version_is_above_all_used_and_never_behind_the_clock(used, seconds):
    version = next_version(used, seconds)

    assert all(version > number for number in used)
    assert max(1, int(seconds)) <= version <= LARGEST_VERSION
    assert version in {max(1, int(seconds)), max(used, default=-1) + 1}


@hypothesis.given(clock=strategies.lists(strategies.floats(0, 1e10, allow_nan=False), min_size=2, max_size=10))
def test_versions_rise_even_if_the_clock_goes_back(clock):
    versions: list[int] = []
    for seconds in clock:
        versions.append(next_version(versions, seconds))

    assert versions == sorted(set(versions))


def test_no_version_above_the_largest():
    with pytest.raises(VersionError, match="no version number is left"):
        next_version([LARGEST_VERSION], 0.0)


def test_highest_version_is_remembered(tmp_path):
    assert read_highest_version(tmp_path) == 0

    write_highest_version(tmp_path, 17)

    assert read_highest_version(tmp_path) == 17
    assert list_versions(tmp_path) == ()


@pytest.mark.parametrize("content", ["", "seventeen", "1\n2", "９"])
def test_a_damaged_memory_is_an_error_with_a_remedy(tmp_path, content):
    (tmp_path / HIGHEST_VERSION_FILE).write_text(content, encoding="utf-8")

    with pytest.raises(VersionError, match="should hold the highest version"):
        read_highest_version(tmp_path)
