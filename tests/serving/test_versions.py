from __future__ import annotations

from pathlib import Path

import pytest

from serving.embedded.versions import ServedModel, select_versions, version_folders

FOLDERS = {number: Path(str(number)) for number in (1, 2, 5, 10)}


@pytest.mark.parametrize(
    ("policy", "selected"),
    [
        pytest.param({}, [10], id="the newest is the default"),
        pytest.param({"latest": 2}, [5, 10], id="latest two"),
        pytest.param({"latest": 9}, [1, 2, 5, 10], id="more than there are"),
        pytest.param({"latest": None}, [1, 2, 5, 10], id="all"),
        pytest.param({"latest": None, "specific": (2, 1)}, [1, 2], id="specific"),
        pytest.param({"latest": None, "specific": (2, 7)}, [2], id="specific, one is missing"),
        pytest.param({"latest": None, "specific": ()}, [], id="specific, none named"),
    ],
)
def test_select_versions(policy: dict[str, object], selected: list[int]) -> None:
    model = ServedModel("ner", "/models/ner", **policy)  # type: ignore[arg-type]

    assert sorted(select_versions(model, FOLDERS)) == selected


def test_version_folders(tmp_path: Path) -> None:
    for name in ("1", "00000123", "7.tmp", ".8", "-9", "x", "٣", str(2**63)):
        (tmp_path / name).mkdir()
    (tmp_path / "5").write_text("a file, not a folder")

    assert {version: path.name for version, path in version_folders(tmp_path).items()} == {1: "1", 123: "00000123"}


def test_two_folders_of_one_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("1", "001"):
        (tmp_path / name).mkdir()

    assert version_folders(tmp_path) == {1: tmp_path / "1"}
    assert "Version 1 will be loaded from 1, 001 will be ignored" in caplog.text


def test_base_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        version_folders(tmp_path / "nowhere")
