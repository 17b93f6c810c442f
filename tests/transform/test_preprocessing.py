from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam

from components import features
from components.settings import SettingsError
from components.tags import tag_names
from components.transform.analysis import load_given_vocabulary
from components.transform.assets import TransformAssets, read_assets
from components.transform.preprocessing import preprocessing_fn
from components.transform.settings import TransformSettings
from components.transform.vocabulary import VocabularyError

Row = dict[str, Any]

DENSE = {name: tf.io.FixedLenFeature([1], tf.string) for name in (features.ID, features.TEXT, features.SOURCE)}
SPARSE = {name: tf.io.VarLenFeature(tf.string) for name in DENSE}
ENTITIES = {
    features.ENTITY_START: tf.io.VarLenFeature(tf.int64),
    features.ENTITY_END: tf.io.VarLenFeature(tf.int64),
    features.ENTITY_TYPE: tf.io.VarLenFeature(tf.string),
}


def row(text: str, *entities: tuple[int, int, str]) -> Row:
    return {
        features.ID: [b"1"],
        features.TEXT: [text.encode()],
        features.SOURCE: [b"corpus:1"],
        features.ENTITY_START: [start for start, _, _ in entities],
        features.ENTITY_END: [end for _, end, _ in entities],
        features.ENTITY_TYPE: [kind.encode() for _, _, kind in entities],
    }


TRAIN = [
    row("张三在北京大学。", (0, 2, "PER"), (3, 7, "ORG")),
    row("Élan Vital 在北京", (0, 4, "PER"), (12, 14, "LOC")),
    row(""),
    row("北京北京", (0, 2, "LOC"), (2, 4, "LOC")),
]


def run_transform(
    folder: Path,
    train: list[Row],
    other: list[Row],
    custom_config: dict[str, Any],
    specification: dict[str, Any] = DENSE,
) -> tuple[TransformAssets, list[Row]]:
    """Analyzes `train`, transforms `other`; returns the assets and the transformed rows as lists."""
    metadata = tft.DatasetMetadata.from_feature_spec({**specification, **ENTITIES})
    function = functools.partial(preprocessing_fn, custom_config=custom_config)
    with tft_beam.Context(temp_dir=str(folder / "temporary")):
        transform_fn = (train, metadata) | tft_beam.AnalyzeDataset(function)
        (rows, _) = ((other, metadata), transform_fn) | tft_beam.TransformDataset()
        _ = transform_fn | tft_beam.WriteTransformFn(str(folder / "graph"))
    as_lists = [{name: [] if value is None else list(value) for name, value in row.items()} for row in rows]
    return read_assets(str(folder / "graph")), as_lists


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TransformAssets, list[Row]]:
    folder = tmp_path_factory.mktemp("learned")
    other = [
        *TRAIN,
        row("北京 2024年", (0, 2, "LOC"), (3, 8, "TIME")),
        row("在 北京 ", (1, 5, "LOC")),
        row("Vital", (0, 2, "PER")),
    ]
    return folder, *run_transform(folder, TRAIN, other, {"minimum_count": 1})


def test_tags_are_those_of_the_train_split(learned: tuple[Path, TransformAssets, list[Row]]) -> None:
    assert learned[1].tags == tag_names(["LOC", "ORG", "PER"])


def test_the_learned_vocabulary_has_the_characters_of_the_train_split(
    learned: tuple[Path, TransformAssets, list[Row]],
) -> None:
    assert set("张三在北京大学。") < set(learned[1].vocabulary.tokens)
    assert "2" not in learned[1].vocabulary.tokens
    assert learned[1].lower_case


def test_learning_is_deterministic(learned: tuple[Path, TransformAssets, list[Row]], tmp_path: Path) -> None:
    again, _ = run_transform(tmp_path, TRAIN[::-1], [], {"minimum_count": 1})
    assert again == learned[1]


@pytest.mark.parametrize(
    ("index", "tags", "spans", "unaligned"),
    [
        pytest.param(0, "B-PER I-PER O B-ORG I-ORG I-ORG I-ORG O", [(i, i + 1) for i in range(8)], [], id="Chinese"),
        pytest.param(1, "B-PER O O B-LOC I-LOC", [(0, 4), (5, 10), (11, 12), (12, 13), (13, 14)], [], id="mixed"),
        pytest.param(2, "", [], [], id="empty text"),
        pytest.param(3, "B-LOC I-LOC B-LOC I-LOC", [(i, i + 1) for i in range(4)], [], id="neighbours"),
        pytest.param(4, "B-LOC I-LOC O O", [(0, 1), (1, 2), (3, 7), (7, 8)], [1], id="type unseen in training"),
        pytest.param(5, "O B-LOC I-LOC", [(0, 1), (2, 3), (3, 4)], [0], id="whitespace at the edges"),
        pytest.param(6, "O", [(0, 5)], [0], id="cut through a piece"),
    ],
)
def test_transformed_rows(
    learned: tuple[Path, TransformAssets, list[Row]],
    index: int,
    tags: str,
    spans: list[tuple[int, int]],
    unaligned: list[int],
) -> None:
    _, assets, rows = learned
    assert [assets.tags[tag] for tag in rows[index][features.TAG_IDS]] == tags.split()
    assert list(zip(rows[index][features.TOKEN_START], rows[index][features.TOKEN_END], strict=True)) == spans
    assert rows[index][features.UNALIGNED_ENTITY] == unaligned


def test_raw_features_pass_through(learned: tuple[Path, TransformAssets, list[Row]]) -> None:
    _, _, rows = learned
    for before, after in zip(TRAIN, rows, strict=False):
        assert {name: after[name] for name in before} == before


def test_the_tokenizer_of_the_assets_gives_the_ids_of_the_examples(
    learned: tuple[Path, TransformAssets, list[Row]],
) -> None:
    _, assets, rows = learned
    texts = tf.concat([row[features.TEXT] for row in rows], 0)
    assert assets.tokenizer()(texts).token_ids.to_list() == [row[features.TOKEN_IDS] for row in rows]


def test_the_saved_graph_transforms_raw_features(learned: tuple[Path, TransformAssets, list[Row]]) -> None:
    folder, _, rows = learned
    graph = tft.TFTransformOutput(str(folder / "graph"))
    raw = tf.io.parse_example(_serialized(TRAIN[:2]), {**DENSE, **ENTITIES})
    ids = tf.RaggedTensor.from_sparse(graph.transform_raw_features(raw)[features.TOKEN_IDS])
    assert ids.to_list() == [row[features.TOKEN_IDS] for row in rows[:2]]


def test_a_given_cased_vocabulary_and_sparse_texts(tmp_path: Path) -> None:
    (tmp_path / "given.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nÉlan\n北\n\n京\n", encoding="utf-8")
    custom_config = {"vocabulary": str(tmp_path / "given.txt"), "lower_case": False}
    without_text = {**row(""), features.TEXT: []}
    assets, rows = run_transform(tmp_path, TRAIN, [without_text, TRAIN[1]], custom_config, SPARSE)
    assert assets.vocabulary.tokens == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "Élan", "北", "", "京")
    assert not assets.lower_case
    assert [row[features.TOKEN_IDS] for row in rows] == [[], [4, 1, 1, 5, 7]]


def test_a_train_split_without_entities(tmp_path: Path) -> None:
    assets, rows = run_transform(tmp_path, [row("北京")], [row("北京", (0, 2, "LOC"))], {"minimum_count": 1})
    assert assets.tags == ("O",)
    assert (rows[0][features.TAG_IDS], rows[0][features.UNALIGNED_ENTITY]) == ([0, 0], [0])


def test_a_vocabulary_that_changed_since(tmp_path: Path) -> None:
    (tmp_path / "given.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    settings = TransformSettings(vocabulary=str(tmp_path / "given.txt"), vocabulary_digest="0" * 64)
    with pytest.raises(VocabularyError, match=r"given\.txt: the file changed since the pipeline was built"):
        load_given_vocabulary(settings)


def test_a_missing_feature_is_named() -> None:
    with pytest.raises(ValueError, match="the examples lack entity_start, entity_end, entity_type; they have text"):
        preprocessing_fn({features.TEXT: tf.constant([["a"]])})


@pytest.mark.parametrize(
    ("custom_config", "message"),
    [
        pytest.param({"vocab": "x"}, "transform.vocab: unknown setting. Did you mean 'vocabulary'", id="unknown"),
        pytest.param({"vocabulary_size": 5}, "vocabulary_size: expected at least 100; received 5", id="too small"),
        pytest.param({"minimum_count": 0}, "minimum_count: expected at least 1", id="minimum count"),
        pytest.param({"vocabulary": ""}, "vocabulary: expected the path", id="no path"),
    ],
)
def test_settings_are_checked(custom_config: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        preprocessing_fn({features.TEXT: tf.constant([["a"]])}, custom_config)


def _serialized(rows: list[Row]) -> list[bytes]:
    def feature(values: list[Any]) -> tf.train.Feature:
        if values and isinstance(values[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    return [
        tf.train.Example(
            features=tf.train.Features(feature={name: feature(values) for name, values in row.items() if values})
        ).SerializeToString()
        for row in rows
    ]
