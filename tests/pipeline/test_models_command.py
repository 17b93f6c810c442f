"""`fusion-ner models` and `fusion-ner rollback` on serving folders."""

from __future__ import annotations

import json
import pathlib
import re

import pytest

from components.pusher.model_card import ModelCard
from components.pusher.publish import publish
from components.pusher.versions import list_versions
from pipeline.command_line import main
from tests.pusher.test_publish import make_model


@pytest.fixture
def directory(tmp_path) -> pathlib.Path:
    """A serving folder with three versions of `ner`: the oldest without a card."""
    publish(make_model(tmp_path / "model-1"), tmp_path / "serving" / "ner", clock=lambda: 1000.0)
    for second, f1 in ((1001, 0.5), (1002, 0.25)):

        def card(version: int, digest: str, f1: float = f1) -> bytes:
            return ModelCard(
                "ner",
                version,
                "2026-01-02T03:04:05Z",
                digest,
                types=("LOC", "PER"),
                data={"fingerprint": "abcdef" * 10},
                evaluation={"strict": {"f1": f1}},
                code={"version": "0.1.0", "commit": "3f9c2ab0d1", "modified": False},
            ).to_bytes()

        model = make_model(tmp_path / f"model-{second}")
        publish(model, tmp_path / "serving" / "ner", clock=lambda second=second: float(second), card=card)
    return tmp_path / "serving" / "ner"


def rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()[1:]]


def test_versions_are_listed_newest_first(directory, capsys):
    assert main(["models", str(directory)]) == 0

    assert [row[:7] + row[8:] for row in rows(capsys.readouterr().out)] == [
        ["ner", "1002", "2026-01-02T03:04:05Z", "0.2500", "LOC,PER", "abcdefabcdef", "0.1.0+3f9c2ab", "newest"],
        ["ner", "1001", "2026-01-02T03:04:05Z", "0.5000", "LOC,PER", "abcdefabcdef", "0.1.0+3f9c2ab"],
        ["ner", "1000", "-", "-", "-", "-", "-"],
    ]


def test_json_has_every_member(directory, capsys):
    assert main(["models", str(directory), "--json"]) == 0

    newest, *_ = json.loads(capsys.readouterr().out)
    assert newest == {
        "model": "ner",
        "version": 1002,
        "newest": True,
        "created": "2026-01-02T03:04:05Z",
        "f1": 0.25,
        "types": ["LOC", "PER"],
        "data_fingerprint": "abcdef" * 10,
        "code_version": "0.1.0+3f9c2ab",
        "bytes": sum(path.stat().st_size for path in (directory / "1002").rglob("*") if path.is_file()),
        "restored_version": None,
        "withdrawn": False,
        "state": None,
        "problem": None,
    }


def test_a_rollback_is_listed_as_such(directory, capsys):
    assert main(["rollback", str(directory)]) == 0
    restored = list_versions(directory)[-1]
    assert capsys.readouterr().out.startswith(f"{directory / str(restored)}: version 1001 once more, in place of 1002;")

    assert main(["models", str(directory)]) == 0
    assert [(row[1], row[3], row[8:]) for row in rows(capsys.readouterr().out)] == [
        (str(restored), "0.5000", ["newest, restores 1001"]),
        ("1002", "0.2500", ["taken back"]),
        ("1001", "0.5000", []),
        ("1000", "-", []),
    ]


def test_several_models_are_listed_by_name(directory, tmp_path, capsys):
    publish(make_model(tmp_path / "other"), directory.parent / "bank", clock=lambda: 7.0)

    assert main(["models", str(directory.parent)]) == 0

    assert [row[:2] for row in rows(capsys.readouterr().out)] == [
        ["bank", "7"],
        ["ner", "1002"],
        ["ner", "1001"],
        ["ner", "1000"],
    ]


def test_old_versions_can_be_removed(directory, capsys):
    assert main(["models", str(directory), "--keep", "1"]) == 0

    assert list_versions(directory) == (1002,)
    captured = capsys.readouterr()
    assert captured.err == f"{directory}: removed 1000, 1001\n"
    assert len(rows(captured.out)) == 1


def test_a_damaged_card_hides_no_other_version(directory, capsys):
    (directory / "1002" / "assets.extra" / "model_card.json").write_bytes(b"{")

    assert main(["models", str(directory)]) == 0

    captured = capsys.readouterr()
    assert [row[1] for row in rows(captured.out)] == ["1002", "1001", "1000"]
    assert "newest, its card cannot be read" in captured.out
    assert "1002/assets.extra/model_card.json is no model card" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["models", "nowhere"], "nowhere: expected a folder; there is none", id="no folder"),
        pytest.param(["models", "."], r"\.: expected version folders, named by a number, or folders", id="no version"),
        pytest.param(["models", "ner", "--keep", "0"], "--keep: expected a number from 1 on; received 0", id="keep 0"),
        pytest.param(["rollback", "."], r"expected version folders", id="rollback without version"),
        pytest.param(["rollback", "ner", "--to", "5"], "there is no version 5; there are 1000, 1001, 1002", id="to"),
        pytest.param(["rollback", "serving"], "expected the folder of one model; .*: ner$", id="several models"),
    ],
)
def test_what_the_user_can_mend_ends_with_2(directory, tmp_path, capsys, monkeypatch, arguments, message):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "ner").symlink_to(directory) if arguments[1] == "ner" else None
    (empty / "serving").symlink_to(directory.parent) if arguments[1] == "serving" else None
    monkeypatch.chdir(empty)

    assert main(arguments) == 2

    assert re.search(message, capsys.readouterr().err.strip())


def test_a_server_that_does_not_answer_is_a_failure(directory, capsys):
    assert main(["models", str(directory), "--target", "127.0.0.1:1"]) == 1

    assert "no model server answers at 127.0.0.1:1" in capsys.readouterr().err
