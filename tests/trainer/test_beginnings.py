from __future__ import annotations

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from components.trainer.beginnings import may_begin
from components.trainer.encoder_config import EncoderConfig
from components.trainer.pieces import piece_kinds
from components.trainer.servable import Servable, export
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.transform.tokenizer import Tokenizer
from components.transform.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "rome", "##ly", "1", "@", ".", "/", "北", "京", *"abc"],
)
TOKENIZER = Tokenizer(VOCABULARY, lower_case=True)
KINDS = piece_kinds(VOCABULARY)


def _beginnings(*texts: str) -> list[list[str]]:
    """Returns the pieces of each text at which an entity may begin."""
    tokens = TOKENIZER(tf.constant(texts, tf.string))
    allowed = tokens.token_ids.with_flat_values(may_begin(tokens.token_ids, tokens.start, tokens.end, KINDS)).to_list()
    return [
        [VOCABULARY.tokens[token] for token, may in zip(*row, strict=True) if may]
        for row in zip(tokens.token_ids.to_list(), allowed, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("rome rome", ["rome", "rome"], id="after whitespace"),
        pytest.param("romely", ["rome"], id="not inside a word"),
        pytest.param("@rome", ["@", "rome"], id="behind punctuation"),
        pytest.param("@.rome/rome", ["@", ".", "rome"], id="behind a letter in the same unit"),
        pytest.param("1/rome", ["1"], id="behind a digit"),
        pytest.param("a/ rome", ["a", "rome"], id="whitespace between them"),
        pytest.param("a rome.b c", ["a", "rome", "c"], id="the next unit starts anew"),
        pytest.param("rome北京", ["rome", "北", "京"], id="an ideograph"),
        pytest.param("北rome", ["北", "rome"], id="behind an ideograph"),
        pytest.param("a/北/rome", ["a", "北", "/", "rome"], id="letters before an ideograph"),
        pytest.param("中rome", ["[UNK]", "rome"], id="behind what is not in the vocabulary"),
        pytest.param("zz/rome", ["[UNK]", "/", "rome"], id="behind letters that are not in the vocabulary"),
        pytest.param("rome中", ["rome"], id="an ideograph that is not in the vocabulary"),
        pytest.param("ro\u00adme\u00adly", ["rome"], id="characters that the tokenizer drops"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_where_entities_may_begin(text, expected):
    assert _beginnings(text) == [expected]


@given(st.lists(st.text(alphabet="a1@. 北", max_size=8), max_size=4))
def test_texts_do_not_see_each_other(texts):
    assert _beginnings(*texts) == [_beginnings(text)[0] for text in texts]


def test_the_exported_model_knows_where_entities_may_begin(tmp_path):
    config = EncoderConfig(
        vocab_size=len(VOCABULARY), hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8, max_positions=32
    )
    tagger = FusionTagger(config, 3, seed=1)
    tagger.named_variables()["output_bias"].assign([0.0, 9.0, 0.0])  # every token looks like the beginning of an entity
    text_tagger = TextTagger(
        tagger, cls_id=2, sep_id=3, window=32, overlap=8, continuation=KINDS.continues, kinds=KINDS
    )
    export(Servable(TOKENIZER, text_tagger, ("O", "B-LOC", "I-LOC")), tmp_path)
    answer = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](text=tf.constant(["@rome/rome 1 rome.1"]))
    assert answer["entity_start"].numpy().tolist() == [[0, 1, 11, 13]]
