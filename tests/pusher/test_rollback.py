"""Rollback: an earlier version comes back under a number of its own, and what was taken back stays away."""

from __future__ import annotations

import pathlib

import pytest

from components.pusher.model_card import ModelCard, ModelCardError, read_card
from components.pusher.publish import PushError, model_digest, publish
from components.pusher.rollback import RollbackError, rollback, withdrawn_as
from components.pusher.versions import list_versions
from tests.pusher.test_publish import contents, make_model


def push(model: pathlib.Path, directory: pathlib.Path, second: int, f1: float = 0.5) -> int:
    def card(version: int, digest: str) -> bytes:
        return ModelCard("ner", version, "", digest, evaluation={"strict": {"f1": f1}}).to_bytes()

    return publish(model, directory, clock=lambda: float(second), card=card).version


@pytest.fixture
def models(tmp_path) -> list[pathlib.Path]:
    return [make_model(tmp_path / name) for name in ("first", "second", "third")]


@pytest.fixture
def directory(tmp_path, models) -> pathlib.Path:
    for second, model in enumerate(models, start=1001):
        push(model, tmp_path / "ner", second, f1=second / 10000)
    return tmp_path / "ner"


def without_card(folder: pathlib.Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if not name.endswith("model_card.json")}


def test_the_version_before_becomes_the_newest_under_a_new_number(directory, models):
    restored = rollback(directory, clock=lambda: 2000.0)

    assert restored.pushed.version == 2000
    assert list_versions(directory) == (1001, 1002, 1003, 2000)
    assert without_card(restored.pushed.path) == contents(models[1])
    card = read_card(restored.pushed.path)
    assert (card.version, card.f1, card.created) == (2000, 0.1002, "1970-01-01T00:33:20Z")
    assert (card.rollback.restored_version, card.rollback.rolled_back_from) == (1002, 1003)
    assert [each.version for each in card.rollback.withdrawn] == [1003]


def test_a_clock_that_was_set_back_does_not_matter(directory):
    assert rollback(directory, clock=lambda: 5.0).pushed.version == 1004


def test_the_second_rollback_goes_further_back(directory):
    rollback(directory)
    second = rollback(directory)

    assert second.rollback.restored_version == 1001
    assert {each.digest for each in second.rollback.withdrawn} == {
        model_digest(directory / "1002"),
        model_digest(directory / "1003"),
    }
    with pytest.raises(RollbackError, match="no version is left to go back to"):
        rollback(directory)


def test_a_version_that_was_taken_back_comes_back_on_request(directory, models):
    rollback(directory)
    again = rollback(directory, 1003)

    assert without_card(again.pushed.path) == contents(models[2])
    assert withdrawn_as(models[2], directory) is None
    assert withdrawn_as(models[1], directory) == again.pushed.version - 1


def test_every_version_behind_the_named_one_is_taken_back(directory, models):
    rollback(directory, 1001)

    assert [withdrawn_as(model, directory) for model in models] == [None, 1002, 1003]


def test_a_new_model_ends_the_rollback(directory, models, tmp_path):
    rollback(directory)
    push(make_model(tmp_path / "fourth"), directory, 9_000_000_000)

    assert [withdrawn_as(model, directory) for model in models] == [None, None, None]


def test_versions_without_cards_can_be_restored(tmp_path, models):
    for second, model in enumerate(models, start=1001):
        publish(model, tmp_path / "ner", clock=lambda second=second: float(second))

    restored = rollback(tmp_path / "ner")

    assert without_card(restored.pushed.path) == contents(models[1])
    assert read_card(restored.pushed.path).name == "ner"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        pytest.param(7, "there is no version 7; there are 1001, 1002, 1003", id="unknown"),
        pytest.param(1003, "version 1003 is the newest already", id="the newest"),
    ],
)
def test_a_version_that_cannot_be_restored_is_named(directory, version, message):
    with pytest.raises(RollbackError, match=message):
        rollback(directory, version)
    assert list_versions(directory) == (1001, 1002, 1003)


def test_the_same_model_under_another_number_is_no_rollback(directory, models):
    push(models[2], directory, 1004)

    with pytest.raises(RollbackError, match="version 1003 is the same model as 1004, the newest"):
        rollback(directory, 1003)
    assert rollback(directory).rollback.restored_version == 1002


def test_a_single_version_has_nothing_to_go_back_to(tmp_path, models):
    push(models[0], tmp_path / "ner", 1000)

    with pytest.raises(RollbackError, match="no version is left"):
        rollback(tmp_path / "ner")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(RollbackError, match="expected version folders"):
        rollback(tmp_path)


def test_a_damaged_version_is_not_restored(directory):
    (directory / "1002" / "assets/vocab.txt").write_bytes(b"changed")

    with pytest.raises(PushError, match="its files are not those that were published"):
        rollback(directory)
    assert list_versions(directory) == (1001, 1002, 1003)


def test_a_damaged_card_is_named(directory):
    (directory / "1003" / "assets.extra/model_card.json").write_bytes(b"{")

    with pytest.raises(ModelCardError, match="1003"):
        rollback(directory)
