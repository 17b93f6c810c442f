"""BERT's tokenizer as a graph: the ids of google-research/bert and code-point offsets into the original text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_text

from components.segments import segment_ids
from components.transform.code_points import code_point_tables
from components.transform.vocabulary import Vocabulary
from components.transform.wordpiece_model import UNKNOWN_WORD, build_wordpiece_model
from components.transform.words import Words, split_words

# Longer words become [UNK] as a whole, in google-research/bert as here.
MAX_WORD_CODE_POINTS = 200


class Tokens(NamedTuple):
    """The word pieces of a batch of texts, without [CLS] and [SEP].

    Attributes:
        token_ids: int32 ragged [B, (T)].
        start: int32 ragged [B, (T)], code points of the original text.
        end: int32 ragged [B, (T)], exclusive.
    """

    token_ids: tf.RaggedTensor
    start: tf.RaggedTensor
    end: tf.RaggedTensor


class Tokenizer:
    """Tokenizes texts with core TensorFlow ops and one op of TF Text, eagerly or in a graph.

    Args:
        vocabulary: the word pieces.
        lower_case: whether the vocabulary is uncased: words are lower-cased, decomposed and stripped of accents.

    Raises:
        VocabularyError: a word piece is longer than 255 bytes.

    Example:
        >>> tokenizer = Tokenizer(Vocabulary.from_file("vocab.txt"), lower_case=True)
        >>> tokenizer(tf.constant(["北京，Café"])).end
        <tf.RaggedTensor [[1, 2, 3, 7]]>
    """

    def __init__(self, vocabulary: Vocabulary, *, lower_case: bool) -> None:
        self.vocabulary = vocabulary
        self.lower_case = lower_case
        self._model = build_wordpiece_model(vocabulary)

    def __call__(self, texts: tf.Tensor) -> Tokens:
        """Tokenizes `texts`, string [B]; any bytes are accepted, invalid UTF-8 counts as U+FFFD, which is dropped."""
        return tokenize(texts, self._model, lower_case=self.lower_case)


def tokenize(texts: tf.Tensor, wordpiece_model: np.ndarray | tf.Tensor, *, lower_case: bool) -> Tokens:
    """Tokenizes `texts`, string [B], with a model of `build_wordpiece_model`, which may be a tensor, uint8 [bytes]."""
    # There are no kernels for strings on a GPU; without the device the integer vectors would travel to it and back.
    with tf.device("/CPU:0"):
        texts = tf.convert_to_tensor(texts, tf.string)
        words = split_words(texts, code_point_tables(lower_case=lower_case))
        piece_tokenizer = tensorflow_text.FastWordpieceTokenizer(
            model_buffer=tf.convert_to_tensor(wordpiece_model), token_out_type=tf.int32, no_pretokenization=True
        )
        too_long = tf.greater(words.first[1:] - words.first[:-1], MAX_WORD_CODE_POINTS)
        token_ids, start_byte, end_byte = piece_tokenizer.tokenize_with_offsets(
            tf.where(too_long, UNKNOWN_WORD, words.text)
        )
        word = segment_ids(token_ids.row_splits)
        first, last = _characters(words, word, start_byte.flat_values, end_byte.flat_values)
        whole_word = tf.gather(too_long, word)
        first = tf.where(whole_word, tf.gather(words.first, word), first)
        last = tf.where(whole_word, tf.gather(words.first, word + 1) - 1, last)

        row_lengths = tf.math.unsorted_segment_sum(
            tf.ones_like(word, tf.int64), tf.gather(words.row, word), tf.size(texts)
        )
        row_splits = tf.concat([[0], tf.cumsum(row_lengths)], 0)
        return Tokens(
            *(
                tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)
                for values in (token_ids.flat_values, tf.gather(words.start, first), tf.gather(words.end, last))
            )
        )


def _characters(
    words: Words, word: tf.Tensor, start_byte: tf.Tensor, end_byte: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the first and the last character, int32 [T], of pieces given by bytes of their word."""
    code = words.code_point
    byte_length = 1 + sum(tf.cast(tf.greater(code, limit), tf.int32) for limit in (0x7F, 0x7FF, 0xFFFF))
    byte_splits = tf.concat([[0], tf.cumsum(byte_length)], 0)
    character_of_byte = segment_ids(byte_splits)
    word_byte = tf.gather(byte_splits, tf.gather(words.first, word))
    return (
        tf.gather(character_of_byte, word_byte + tf.cast(start_byte, tf.int32)),
        tf.gather(character_of_byte, word_byte + tf.cast(end_byte, tf.int32) - 1),
    )
