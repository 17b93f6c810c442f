"""The model card: what it says, that it names no place, and that it travels with the version."""

from __future__ import annotations

import json
import pathlib

import pytest
import tensorflow_model_analysis as tfma

from components.evaluator.component import evaluation_config
from components.evaluator.settings import EvaluatorSettings
from components.pusher import card_sources
from components.pusher.model_card import (
    CARD_FILE,
    ModelCard,
    ModelCardError,
    Rollback,
    WithdrawnVersion,
    iso_time,
    read_card,
)
from components.pusher.publish import PushError, model_digest, publish, published_already
from components.settings import settings_to_json
from components.trainer.settings import TrainerSettings
from tests.pusher.test_publish import make_model, names

SETTINGS = TrainerSettings(
    encoder="/data/encoders/bert", warm_start="gs://data/ner", checkpoint_directory="/data/state"
)
TRAINING = {
    "settings": settings_to_json(SETTINGS),
    "encoder": {"hidden_size": 128, "num_layers": 4},
    "tags": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"],
    "tokenizer": {"vocabulary_size": 1066, "vocabulary_sha256": "ab" * 32, "lower_case": True},
    "code": {"version": "0.1.0", "commit": "3f9c2ab0d1", "modified": True},
    "libraries": {"tensorflow": "2.16.2"},
    "fingerprint": "cd" * 32,
    "window": 512,
    "window_overlap": 128,
    "whole_words": True,
    "annotated_by_whitespace": False,
    "splits": {},
    "best_epoch": 2,
    "epochs": [
        {"precision": 0.1, "recall": 0.1, "f1": 0.1, "layer_weights": [1.0]},
        {"precision": 0.5, "recall": 0.6, "f1": 0.54, "layer_weights": [0.4, 0.6]},
    ],
    "seconds": 12.5,
}
DATA_REPORT = {
    "texts": {"train": 3, "dev": 1, "test": 1},
    "entities": {"train": {"LOC": 2}, "dev": {}, "test": {}},
    "leaks": {"train, dev": 0},
    "contradictions": 1,
    "notes": ["/data/corpus/train.jsonl: the format is json_lines (detected)"],
}
VALIDATION = {
    "server": "the embedded server",
    "requests": 24,
    "load_seconds": 3.5,
    "latencies": [{"texts": 1, "requests": 16, "median_milliseconds": 7.0, "longest_milliseconds": 8.0}],
    "refusals": [],
}


@pytest.fixture
def folders(tmp_path) -> dict[str, str]:
    for folder, name, content in (
        ("examples", "report.json", DATA_REPORT),
        ("model_run", "training.json", TRAINING),
        ("infra_blessing", "infra_validation.json", VALIDATION),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(json.dumps(content), encoding="utf-8")
    return {name: str(tmp_path / name) for name in ("examples", "model_run", "infra_blessing")}


def test_a_card_gathers_what_the_steps_left(folders):
    card = card_sources.gather_card("news", input_fingerprint="split:train,sha256:00", **folders)

    assert card.name == "news"
    assert card.types == ("LOC", "PER")
    assert card.model["fusion"] == "dynamic"
    assert card.model["encoder"] == {"hidden_size": 128, "num_layers": 4}
    assert card.tokenizer == TRAINING["tokenizer"]
    assert card.data["texts"] == {"train": 3, "dev": 1, "test": 1}
    assert card.training["dev"] == {"precision": 0.5, "recall": 0.6, "f1": 0.54}
    assert (card.training["settings"]["encoder"], card.training["settings"]["warm_start"]) == ("bert", "ner")
    assert card.infra_validation["latencies"][0]["median_milliseconds"] == 7.0
    assert card.code_version == "0.1.0+3f9c2ab.modified"
    assert card.libraries == {"tensorflow": "2.16.2"}


def test_a_card_names_no_place(folders):
    content = card_sources.gather_card("news", input_fingerprint="split:train,sha256:00", **folders).to_bytes().decode()

    assert "data/" not in content
    assert not [line for line in content.splitlines() if '"/' in line]


def test_a_card_without_sources_is_a_card():
    card = card_sources.gather_card("news")

    assert (card.f1, card.data_fingerprint, card.code_version, card.types) == (None, None, None, ())


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        pytest.param(
            "split:train,num_files:1,xor_checksum:17\nsplit:train,sha256:aa",
            "split:train,num_files:1,xor_checksum:18\nsplit:train,sha256:aa",
            True,
            id="other times of modification",
        ),
        pytest.param("split:train,sha256:aa", "split:train,sha256:ab", False, id="other contents"),
        pytest.param("split:train,sha256:aa", "split:dev,sha256:aa", False, id="another split"),
    ],
)
def test_the_data_fingerprint_is_that_of_the_contents(first, second, equal):
    assert (card_sources.data_fingerprint(first) == card_sources.data_fingerprint(second)) is equal


def test_without_contents_there_is_no_fingerprint():
    assert card_sources.data_fingerprint("split:train,num_files:1,xor_checksum:17") is None


def test_the_gates_are_those_of_the_settings():
    config = evaluation_config(
        EvaluatorSettings(minimum_f1=0.5, minimum_f1_per_type={"LOC": 0.25}, maximum_f1_drop=0.125)
    )

    assert isinstance(config, tfma.EvalConfig)
    assert card_sources.gates(config) == [
        {"metric": "f1", "minimum": 0.5},
        {"metric": "f1", "maximum_drop": 0.125},
        {"metric": "f1/LOC", "minimum": 0.25},
    ]


CARD = ModelCard(
    name="news",
    version=5,
    created=iso_time(1763950000.9),
    digest="ab" * 32,
    types=("LOC",),
    evaluation={"strict": {"f1": 0.5}},
    rollback=Rollback(3, 4, (WithdrawnVersion(4, "cd" * 32),)),
)


def write_card(folder: pathlib.Path, content: bytes) -> pathlib.Path:
    (folder / CARD_FILE).parent.mkdir(parents=True, exist_ok=True)
    (folder / CARD_FILE).write_bytes(content)
    return folder


def test_a_card_is_read_as_it_was_written(tmp_path):
    assert read_card(write_card(tmp_path, CARD.to_bytes())) == CARD
    assert CARD.created == "2025-11-24T02:06:40Z"


def test_members_of_later_programs_are_passed_over(tmp_path):
    values = {**json.loads(CARD.to_bytes()), "licence": "unknown to this program"}

    assert read_card(write_card(tmp_path, json.dumps(values).encode())) == CARD


def test_a_version_without_a_card_has_none(tmp_path):
    assert read_card(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is no model card", id="empty"),
        pytest.param(b"[]", "is no model card", id="no object"),
        pytest.param(b"{}", "is no model card: KeyError: 'schema'", id="no schema"),
        pytest.param(b'{"schema": 1, "name": "x"}', "is no model card: TypeError", id="no version"),
        pytest.param(b'{"schema": 2}', "expected schema 1, received 2", id="later schema"),
        pytest.param(b"\xff", "is no model card", id="not UTF-8"),
    ],
)
def test_a_damaged_card_is_named(tmp_path, content, message):
    with pytest.raises(ModelCardError, match=message) as raised:
        read_card(write_card(tmp_path, content))
    assert CARD_FILE in str(raised.value)


def test_a_version_is_published_with_its_card(tmp_path):
    model = write_card(make_model(tmp_path / "model"), b"a card of another version")
    seen = []

    def card(version: int, digest: str) -> bytes:
        seen.append((version, digest))
        return b"the card"

    pushed = publish(model, tmp_path / "ner", clock=lambda: 1000.0, card=card)

    assert seen == [(1000, model_digest(model))]
    assert (pushed.path / CARD_FILE).read_bytes() == b"the card"
    assert (pushed.path / "assets.extra/tf_serving_warmup_requests").is_file()
    assert model_digest(pushed.path) == model_digest(model), "the card is no part of the digest"
    assert published_already(model, tmp_path / "ner") == pushed


def test_the_card_has_the_number_that_the_version_gets(tmp_path):
    model = make_model(tmp_path / "model")
    (tmp_path / "ner").mkdir()
    (tmp_path / "ner" / "1000").write_text("a file where the next version would be")
    seen = []

    pushed = publish(
        model, tmp_path / "ner", clock=lambda: 1000.0, card=lambda version, _: seen.append(version) or b"%d" % version
    )

    assert pushed.version == 1001
    assert (pushed.path / CARD_FILE).read_bytes() == b"1001"


def test_a_card_that_cannot_be_made_publishes_nothing(tmp_path):
    def card(version: int, digest: str) -> bytes:
        raise PushError(f"no card for {version}")

    with pytest.raises(PushError, match="no card for 1000"):
        publish(make_model(tmp_path / "model"), tmp_path / "ner", clock=lambda: 1000.0, card=card)

    assert names(tmp_path / "ner") == {".lock", ".highest-version"}
