"""A tiny corpus, as Transform leaves it, and a tiny tagger for it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from components import features
from components.tags import tag_names
from components.trainer.settings import RandomEncoderSettings, TrainerSettings
from components.transform.tokenizer import Tokenizer
from components.transform.vocabulary import Vocabulary

# The tests and the processes that they start compare float32 results; on a GPU TensorFlow would round the operands of
# products to ten bits.
os.environ["NVIDIA_TF32_OVERRIDE"] = "0"

ANNOTATED = (
    ("张三在北京工作。", ((0, 2, "PER"), (3, 5, "LOC"))),
    ("李四的朋友王五在上海", ((0, 2, "PER"), (5, 7, "PER"), (8, 10, "LOC"))),
    ("他是北京的", ((2, 4, "LOC"),)),
    ("在上海的王五", ((1, 3, "LOC"), (4, 6, "PER"))),
    ("", ()),
    ("工作，朋友。", ()),
)
TINY = TrainerSettings(
    random_encoder=RandomEncoderSettings(
        hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_positions=32
    ),
    epochs=8,
    batch_tokens=64,
    window=8,
    learning_rate=5e-3,
)


@pytest.fixture(scope="session")
def tiny_settings() -> TrainerSettings:
    return TINY


@pytest.fixture(scope="session")
def annotated():
    """Texts with (start, end, type) of their entities."""
    return ANNOTATED


@pytest.fixture(scope="session")
def tiny_tags() -> tuple[str, ...]:
    return tag_names(["PER", "LOC"])


@pytest.fixture(scope="session")
def tiny_vocabulary() -> Vocabulary:
    characters = sorted({character for text, _ in ANNOTATED for character in text})
    return Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *characters, "a", "##b"))


@pytest.fixture(scope="session")
def transformed_examples(tiny_vocabulary, tiny_tags):
    return examples_of(ANNOTATED, tiny_vocabulary, tiny_tags)


@pytest.fixture
def training_arguments(tmp_path, transformed_examples, tiny_vocabulary, tiny_tags):
    """The part of TFX's FnArgs that `run_fn` reads, over a folder of its own."""
    assets = tmp_path / "transform_graph" / "transform_fn" / "assets"
    assets.mkdir(parents=True)
    (assets / features.VOCABULARY_ASSET).write_bytes(tiny_vocabulary.to_bytes())
    (assets / features.TAGS_ASSET).write_text("".join(f"{tag}\n" for tag in tiny_tags), encoding="utf-8")
    (assets / features.TOKENIZER_ASSET).write_text(json.dumps({"lower_case": True}), encoding="utf-8")
    write_examples(tmp_path / "train.gz", transformed_examples * 4)
    write_examples(tmp_path / "dev.gz", transformed_examples)
    return SimpleNamespace(
        custom_config={
            "random_encoder": vars(TINY.random_encoder),
            "epochs": TINY.epochs,
            "batch_tokens": TINY.batch_tokens,
            "window": TINY.window,
            "learning_rate": TINY.learning_rate,
            "checkpoint_directory": str(tmp_path / "checkpoints"),
        },
        train_files=[str(tmp_path / "train*")],
        eval_files=[str(tmp_path / "dev*")],
        transform_graph_path=str(tmp_path / "transform_graph"),
        serving_model_dir=str(tmp_path / "model"),
        model_run_dir=str(tmp_path / "run"),
    )


def examples_of(annotated, vocabulary: Vocabulary, tags: tuple[str, ...]) -> list[bytes]:
    """Returns the examples as Transform writes them, serialized."""
    tokens = Tokenizer(vocabulary, lower_case=True)(tf.constant([text for text, _ in annotated]))
    rows = zip(annotated, *(ragged.to_list() for ragged in tokens), strict=True)
    return [_serialized(text, entities, *row, tags=tags) for (text, entities), *row in rows]


def write_examples(path: Path, examples: list[bytes]) -> None:
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for example in examples:
            writer.write(example)


def _serialized(text, entities, token_ids, starts, ends, *, tags) -> bytes:
    tag_of = {
        place: ("B-" if place == start else "I-") + name for start, end, name in entities for place in range(start, end)
    }
    integers = {
        features.ENTITY_START: [start for start, _, _ in entities],
        features.ENTITY_END: [end for _, end, _ in entities],
        features.TOKEN_IDS: token_ids,
        features.TOKEN_START: starts,
        features.TOKEN_END: ends,
        features.TAG_IDS: [tags.index(tag_of.get(start, "O")) for start in starts],
        features.UNALIGNED_ENTITY: [],
    }
    strings = {features.TEXT: [text.encode()], features.ENTITY_TYPE: [name.encode() for _, _, name in entities]}
    feature = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=values)) for name, values in integers.items()}
    feature |= {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=values)) for name, values in strings.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
