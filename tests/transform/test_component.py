from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path

import pytest
from tfx.types import channel, standard_artifacts

from components.settings import parse_settings
from components.transform.component import create_transform
from components.transform.preprocessing import preprocessing_fn
from components.transform.settings import TransformSettings
from components.transform.vocabulary import VocabularyError


def properties(settings: TransformSettings) -> dict[str, object]:
    transform = create_transform(
        examples=channel.Channel(standard_artifacts.Examples),
        schema=channel.Channel(standard_artifacts.Schema),
        settings=settings,
    )
    return transform.exec_properties


def test_the_function_is_found_by_its_path() -> None:
    module, name = str(properties(TransformSettings())["preprocessing_fn"]).rsplit(".", 1)
    assert getattr(importlib.import_module(module), name) is preprocessing_fn


def test_only_the_train_split_is_analyzed() -> None:
    splits = json.loads(str(properties(TransformSettings())["splits_config"]))
    assert splits == {"analyze": ["train"], "transform": ["train", "dev", "test"]}


def test_the_settings_arrive(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n")
    settings = TransformSettings(vocabulary=str(tmp_path / "vocab.txt"), lower_case=False)
    received = parse_settings(TransformSettings, json.loads(str(properties(settings)["custom_config"])))
    assert received.vocabulary_digest == hashlib.sha256(b"[PAD]\n").hexdigest()
    assert (received.vocabulary, received.lower_case) == (settings.vocabulary, False)


def test_a_vocabulary_that_is_not_there_yet_is_left_to_the_step(tmp_path: Path) -> None:
    # It may lie on a volume that only the cluster has.
    settings = TransformSettings(vocabulary=str(tmp_path / "absent.txt"))
    assert json.loads(str(properties(settings)["custom_config"]))["vocabulary_digest"] is None


def test_a_vocabulary_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="cannot read the vocabulary"):
        properties(TransformSettings(vocabulary=str(tmp_path)))
