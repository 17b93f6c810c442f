from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2

from components.trainer.encoder_config import EncoderConfig
from components.trainer.servable import Servable, export
from components.trainer.serving_ops import ServingOpsError, check_serving_ops, unknown_ops
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.transform.tokenizer import Tokenizer

LAYERS = 2


@pytest.fixture(scope="module")
def servable(tiny_vocabulary, tiny_tags):
    config = EncoderConfig(
        vocab_size=len(tiny_vocabulary),
        hidden_size=16,
        num_layers=LAYERS,
        num_heads=2,
        intermediate_size=32,
        max_positions=32,
        initializer_range=0.5,  # so that the untrained model finds entities of every kind
    )
    text_tagger = TextTagger(
        FusionTagger(config, len(tiny_tags), seed=3),
        cls_id=tiny_vocabulary.cls_id,
        sep_id=tiny_vocabulary.sep_id,
        window=32,
        overlap=8,
        continuation=None,
    )
    return Servable(Tokenizer(tiny_vocabulary, lower_case=True), text_tagger, tiny_tags)


@pytest.fixture(scope="module")
def model_directory(servable, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    export(servable, directory)
    return directory


@pytest.fixture(scope="module")
def signatures(model_directory):
    return tf.saved_model.load(str(model_directory)).signatures


def tag(signatures, texts):
    return {
        name: value.numpy() for name, value in signatures["serving_default"](text=tf.constant(texts, tf.string)).items()
    }


def test_signatures_have_the_names_and_types_of_the_contract(signatures):
    described = {
        name: (
            {spec.name: spec.dtype.name for spec in signature.structured_input_signature[1].values()},
            {output: (spec.dtype.name, spec.shape.rank) for output, spec in signature.structured_outputs.items()},
        )
        for name, signature in signatures.items()
    }
    assert described == {
        "serving_default": (
            {"text": "string"},
            {
                "entity_count": ("int32", 1),
                "entity_start": ("int32", 2),
                "entity_end": ("int32", 2),
                "entity_type": ("string", 2),
                "entity_text": ("string", 2),
                "entity_score": ("float32", 2),
            },
        ),
        "tokens": (
            {"token_ids": "int32", "padding_mask": "int32"},
            {"logits": ("float32", 3), "layer_weights": ("float32", 3)},
        ),
        "examples": (
            {"examples": "string"},
            {
                "gold_entities": ("string", 2),
                "predicted_entities": ("string", 2),
                "predicted_score": ("float32", 2),
            },
        ),
        "explain": (
            {"text": "string"},
            {
                "token_count": ("int32", 1),
                "token_start": ("int32", 2),
                "token_end": ("int32", 2),
                "token_text": ("string", 2),
                "tag_name": ("string", 2),
                "tag_probability": ("float32", 3),
                "layer_weights": ("float32", 3),
            },
        ),
    }


def check_answer(texts, answer):
    """Every promise of the signature, for texts as bytes."""
    width = max(answer["entity_count"].tolist(), default=0)
    for name, padding in (
        ("entity_start", -1),
        ("entity_end", -1),
        ("entity_type", b""),
        ("entity_text", b""),
        ("entity_score", 0.0),
    ):
        assert answer[name].shape == (len(texts), width)
        for row, count in zip(answer[name], answer["entity_count"], strict=True):
            assert all(value == padding for value in row[count:])
    for row, text in enumerate(texts):
        characters = tf.strings.unicode_decode(text, "UTF-8", errors="replace").numpy().tolist()
        previous = 0
        for place in range(answer["entity_count"][row]):
            start, end = answer["entity_start"][row, place], answer["entity_end"][row, place]
            assert previous <= start < end <= len(characters)
            previous = end
            assert answer["entity_text"][row, place].decode() == "".join(map(chr, characters[start:end]))
            assert answer["entity_type"][row, place] in (b"LOC", b"PER")
            assert 0 < answer["entity_score"][row, place] <= 1


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param([], id="empty batch"),
        pytest.param([b""], id="empty text"),
        pytest.param(["张三在北京".encode(), b"", "王五在上海工作".encode()], id="three"),
        pytest.param([b"\xff\xfe", "张".encode() + b"\xe5\xbc" + "三".encode(), b"\xed\xa0\x80"], id="invalid UTF-8"),
        pytest.param(["张\0三\0".encode(), b"\0"], id="NUL"),
        pytest.param(["张😀三👨‍👩‍👧在北京".encode()], id="emoji"),
        pytest.param([("张三在北京，" * 40).encode(), "他".encode()], id="several windows"),
    ],
)
def test_texts(signatures, texts):
    check_answer(texts, tag(signatures, texts))


def test_the_untrained_model_finds_something(signatures):
    assert sum(tag(signatures, ["张三在北京工作", "李四的朋友王五在上海"])["entity_count"]) > 0


@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))),
        max_size=4,
    )
)
@settings(max_examples=60)
def test_no_bytes_make_the_graph_raise(signatures, texts):
    check_answer(texts, tag(signatures, texts))


def test_a_text_of_100_000_characters(signatures):
    text = ("张三在北京工作，" * 12_500).encode()
    answer = tag(signatures, [text])
    assert answer["entity_count"][0] > 0
    assert answer["entity_end"].max() > 99_000


def test_a_text_is_tagged_alike_alone_and_in_a_batch(signatures):
    texts = ["张三在北京工作", "李四的朋友王五在上海" * 9, "他"]
    batch = tag(signatures, texts)
    for row, text in enumerate(texts):
        alone = tag(signatures, [text])
        count = alone["entity_count"][0]
        assert count == batch["entity_count"][row]
        for name in ("entity_start", "entity_end", "entity_type", "entity_text"):
            assert alone[name][0].tolist() == batch[name][row, :count].tolist()
        np.testing.assert_allclose(alone["entity_score"][0], batch["entity_score"][row, :count], atol=1e-5)


def run_tokens(signatures, token_ids, padding_mask):
    answer = signatures["tokens"](
        token_ids=tf.constant(token_ids, tf.int32), padding_mask=tf.constant(padding_mask, tf.int32)
    )
    return answer["logits"].numpy(), answer["layer_weights"].numpy()


def test_tokens_equal_the_tagger_and_are_0_at_padding(signatures, servable):
    logits, layer_weights = run_tokens(
        signatures, [[2, 7, 8, 3, 0], [2, 9, 3, 0, 0], [0] * 5], [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [0] * 5]
    )
    expected = servable.text_tagger.tagger(tf.constant([2, 7, 8, 3, 2, 9, 3]), tf.constant([4, 3]))
    np.testing.assert_allclose(logits[0, :4], expected.logits[:4], atol=1e-5)
    np.testing.assert_allclose(logits[1, :3], expected.logits[4:], atol=1e-5)
    np.testing.assert_allclose(layer_weights[1, :3], expected.layer_weights[4:], atol=1e-5)
    assert not logits[0, 4:].any()
    assert not logits[1, 3:].any()
    assert not logits[2].any()
    assert not layer_weights[2].any()


def test_padding_may_stand_anywhere(signatures):
    right = run_tokens(signatures, [[2, 7, 3, 0, 0]], [[1, 1, 1, 0, 0]])[0]
    around = run_tokens(signatures, [[0, 2, 7, 0, 3]], [[0, 1, 1, 0, 1]])[0]
    np.testing.assert_allclose(right[0, :3], around[0, [1, 2, 4]], atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (2, 0)])
def test_tokens_of_empty_batches(signatures, shape):
    logits, layer_weights = run_tokens(signatures, np.zeros(shape), np.zeros(shape))
    assert logits.shape == (*shape, 5)
    assert layer_weights.shape == (*shape, LAYERS)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param([2] * 33, "more tokens than the 32 positions of the encoder", id="too long"),
        pytest.param([2, 1000, 3], "token_ids must be less than", id="unknown id"),
        pytest.param([2, -1, 3], "token_ids must not be negative", id="negative id"),
    ],
)
def test_tokens_that_the_encoder_cannot_take_are_refused(signatures, row, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run_tokens(signatures, [row], [[1] * len(row)])


def test_examples_give_gold_beside_predictions(signatures, transformed_examples, annotated):
    answer = signatures["examples"](examples=tf.constant(transformed_examples))
    gold = [[value.decode() for value in row if value] for row in answer["gold_entities"].numpy().tolist()]
    assert gold == [[f"{start}\t{end}\t{name}" for start, end, name in entities] for _, entities in annotated]
    predicted = answer["predicted_entities"].numpy().tolist()
    direct = tag(signatures, [text for text, _ in annotated])
    for row, values in enumerate(predicted):
        spans = zip(*(direct[f"entity_{name}"][row] for name in ("start", "end", "type")), strict=True)
        found = [f"{start}\t{end}\t{name.decode()}" for start, end, name in spans]
        expected = found[: direct["entity_count"][row]]
        assert [value.decode() for value in values if value] == expected
    np.testing.assert_allclose(answer["predicted_score"], direct["entity_score"], atol=1e-6)


def test_examples_of_an_empty_batch(signatures):
    answer = signatures["examples"](examples=tf.constant([], tf.string))
    assert answer["gold_entities"].shape == answer["predicted_entities"].shape == (0, 0)


def test_the_model_holds_the_taggers_weights_and_nothing_else(model_directory, servable):
    names = [name for name, _ in tf.train.list_variables(str(model_directory / "variables" / "variables"))]
    weights = [name for name in names if name.endswith(".ATTRIBUTES/VARIABLE_VALUE")]
    assert len(weights) == len(servable.text_tagger.tagger.trainable_variables)


def test_the_model_holds_no_random_op(model_directory):
    ops = {node.op for node in all_nodes(model_directory)}
    assert "ConstrainedSequence" in ops
    assert not {op for op in ops if "Random" in op or "Uniform" in op or "Dropout" in op}


def all_nodes(directory):
    model = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]


def test_an_op_that_tf_serving_lacks_stops_the_export(tmp_path):
    class Trims(tf.Module):
        @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32, row_splits_dtype=tf.int64)])
        def trim(self, values):
            return tensorflow_text.RoundRobinTrimmer(3).trim([values, values])[0].to_tensor()

    tf.saved_model.save(Trims(), str(tmp_path))
    with pytest.raises(ServingOpsError, match=r"the op TFText>RoundRobinTrim in the function .*trim"):
        check_serving_ops(tmp_path)


def test_an_attribute_that_tf_serving_lacks_is_named():
    model = saved_model_pb2.SavedModel()
    node = model.meta_graphs.add().graph_def.node.add(op="FastBertNormalize")
    node.attr["get_offsets"].b = True
    node.attr["_private"].b = True
    assert list(unknown_ops(model)) == []
    node.attr["fold"].b = True
    assert list(unknown_ops(model)) == ["the attribute fold of the op FastBertNormalize in the graph"]


def test_the_ops_that_pass_as_tensorflows_are_registered_without_tf_text(model_directory):
    """`tf.raw_ops` against the registry of a process that has loaded no other library."""
    ops = sorted({node.op for node in all_nodes(model_directory)})
    script = (
        "import json, sys\n"
        "import tensorflow\n"
        "from tensorflow.python.framework import op_def_registry\n"
        "print(json.dumps([op for op in json.loads(sys.argv[1]) if op_def_registry.get(op) is None]))\n"
    )
    output = subprocess.run([sys.executable, "-c", script, json.dumps(ops)], capture_output=True, text=True, check=True)
    foreign = json.loads(output.stdout.strip().splitlines()[-1])
    assert foreign == [op for op in ops if not hasattr(tf.raw_ops, op)]
    assert set(foreign) == {"ConstrainedSequence", "FastWordpieceTokenizeWithOffsets"}


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param([], id="no texts"),
        pytest.param(["", " "], id="no tokens"),
        pytest.param(["张三 在北京", "", "abb！"], id="three"),
        pytest.param(["张三在北京工作。" * 10], id="several windows"),
    ],
)
def test_explain_gives_tokens_with_probabilities_and_layer_weights(servable, signatures, tiny_vocabulary, texts):
    answer = {name: value.numpy() for name, value in signatures["explain"](tf.constant(texts, tf.string)).items()}
    tokens = Tokenizer(tiny_vocabulary, lower_case=True)(tf.constant(texts, tf.string))
    output = tf.function(servable.text_tagger.tag_tokens)(tokens.token_ids)
    first = 0
    assert answer["tag_name"].shape == (len(texts), 5)
    for row, text in enumerate(texts):
        count = answer["token_count"][row]
        starts, ends = tokens.start[row].numpy(), tokens.end[row].numpy()
        assert answer["token_start"][row, :count].tolist() == starts.tolist()
        assert answer["token_end"][row, :count].tolist() == ends.tolist()
        pieces = [text[start:end].encode() for start, end in zip(starts, ends, strict=True)]
        assert answer["token_text"][row, :count].tolist() == pieces
        assert answer["tag_name"][row].tolist() == [b"O", b"B-LOC", b"I-LOC", b"B-PER", b"I-PER"]
        expected = tf.nn.softmax(output.logits[first : first + count]).numpy()
        np.testing.assert_allclose(answer["tag_probability"][row, :count], expected, atol=1e-5)
        expected = output.layer_weights[first : first + count].numpy()
        np.testing.assert_allclose(answer["layer_weights"][row, :count], expected, atol=1e-5)
        first += count
        assert (answer["token_start"][row, count:] == -1).all()
        assert (answer["token_text"][row, count:] == b"").all()
        assert (answer["layer_weights"][row, count:] == 0).all()
