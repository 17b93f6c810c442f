"""From the tokens of texts to entities, whatever their length: windows, encoder, decoding.

Evaluation on the dev set and the exported model run this very graph.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from components.trainer.beginnings import may_begin
from components.trainer.crf import sequence_loss
from components.trainer.decoding import Entities, decode_entities
from components.trainer.label_scheme import LabelScheme, bio_scheme
from components.trainer.pieces import PieceKinds
from components.trainer.tagger import FusionTagger, TaggerOutput
from components.trainer.windows import cut_windows

# Tokens that go through the encoder together: enough to keep all cores busy, while a text of 100,000 characters needs
# no more memory than one of 8,000.
CHUNK_TOKENS = 8192


class TextTagger(tf.Module):
    """Finds entities in tokenized texts.

    Args:
        tagger: the model.
        cls_id: id of [CLS].
        sep_id: id of [SEP].
        window: tokens of a window, special ones included.
        overlap: tokens that neighbouring windows share.
        continuation: bool [vocabulary], which tokens continue a word; None lets entities end inside words.
        kinds: of the tokens, by which `may_begin` tells where entities may begin; None lets them begin everywhere.
        transitions: float32 [K+1, K+1], see `decode_tags`; None adds nothing but those that the tagger has trained.
        scheme: what the labels mean; None takes them for O, B-x, I-x, B-y, I-y, ..

    Attributes:
        tagger: the model, in whose place one of another precision may be put; a graph keeps its own.
        temperature: of the scores of entities, see `decode_entities`; a graph keeps the one that it was traced with.
        transition_weight: by which `transitions` are multiplied; a graph keeps the one that it was traced with.

    Raises:
        ValueError: `transitions` are given and the tagger has its own.
    """

    def __init__(
        self,
        tagger: FusionTagger,
        *,
        cls_id: int,
        sep_id: int,
        window: int,
        overlap: int,
        continuation: np.ndarray | None,
        kinds: PieceKinds | None = None,
        transitions: np.ndarray | None = None,
        scheme: LabelScheme | None = None,
    ) -> None:
        super().__init__()
        if transitions is not None and tagger.transitions is not None:
            raise ValueError("transitions: the tagger has trained ones; expected None")
        self.temperature = 1.0
        self.transition_weight = 1.0
        self.tagger = tagger
        self._cls_id = cls_id
        self._sep_id = sep_id
        self._window = window
        self._overlap = overlap
        self._chunk_tokens = max(CHUNK_TOKENS, tagger.encoder_config.max_positions)
        self._transitions = transitions
        self.scheme = scheme
        self._kinds = kinds
        self._continuation = None if continuation is None else tf.constant(continuation)

    def tag_rows(self, token_ids: tf.Tensor, row_lengths: tf.Tensor) -> TaggerOutput:
        """Runs the model over packed rows, about `CHUNK_TOKENS` tokens at a time.

        Args:
            token_ids: int32 [N], rows one after another, each with its [CLS] and [SEP].
            row_lengths: int32 [W], none 0; N and W may be 0.
        """
        row_ends = tf.cumsum(row_lengths)
        chunk_of_row = (row_ends - row_lengths) // self._chunk_tokens  # no chunk is empty: a row is shorter than it
        chunk_count = tf.reduce_max(tf.concat([[-1], chunk_of_row], axis=0)) + 1
        first_row = tf.searchsorted(chunk_of_row, tf.range(chunk_count + 1))
        first_token = tf.gather(tf.concat([[0], row_ends], axis=0), first_row)

        def tag_chunk(
            chunk: tf.Tensor, logits: tf.TensorArray, layer_weights: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray]:
            output = self.tagger(
                token_ids[first_token[chunk] : first_token[chunk + 1]],
                row_lengths[first_row[chunk] : first_row[chunk + 1]],
            )
            return chunk + 1, logits.write(chunk, output.logits), layer_weights.write(chunk, output.layer_weights)

        def pieces(width: int) -> tf.TensorArray:
            return tf.TensorArray(tf.float32, size=chunk_count, infer_shape=False, element_shape=[None, width])

        _, logits, layer_weights = tf.while_loop(
            lambda chunk, *_: chunk < chunk_count,
            tag_chunk,
            (tf.constant(0), pieces(self.tagger.tag_count), pieces(self.tagger.encoder_config.num_layers)),
            # One chunk after another, or memory would grow with the text after all.
            parallel_iterations=1,
        )
        return TaggerOutput(logits=logits.concat(), layer_weights=layer_weights.concat())

    def tag_tokens(self, token_ids: tf.RaggedTensor) -> TaggerOutput:
        """Runs the model over texts, cut into windows where they are long: outputs for [sum of tokens] in text order.

        Args:
            token_ids: int32 [B, (tokens)], without [CLS] and [SEP].
        """
        windows = cut_windows(
            token_ids, cls_id=self._cls_id, sep_id=self._sep_id, window=self._window, overlap=self._overlap
        )
        output = self.tag_rows(windows.token_ids, windows.row_lengths)
        return TaggerOutput(
            logits=tf.gather(output.logits, windows.token_position),
            layer_weights=tf.gather(output.layer_weights, windows.token_position),
        )

    def decode(
        self,
        logits: tf.Tensor,
        token_ids: tf.RaggedTensor,
        start: tf.RaggedTensor,
        end: tf.RaggedTensor,
        *,
        temperature: tf.Tensor | None = None,
        transition_weight: tf.Tensor | None = None,
    ) -> Entities:
        """Turns the logits of `tag_tokens` into entities; see `decode_entities`.

        Temperature and weight are those of this object unless they are given; trained transitions have no weight.
        """
        transitions = self.tagger.transitions
        if transitions is None and self._transitions is not None:
            weight = self.transition_weight if transition_weight is None else transition_weight
            transitions = self._transitions * tf.cast(weight, tf.float32)
        return decode_entities(
            logits,
            start,
            end,
            self._continues_word(token_ids.flat_values),
            transitions,
            self.scheme,
            self.temperature if temperature is None else temperature,
            may_begin=None if self._kinds is None else may_begin(token_ids, start, end, self._kinds),
        )

    @property
    def has_counted_transitions(self) -> bool:
        """Whether `transition_weight` makes a difference."""
        return self._transitions is not None

    def sequence_loss(
        self, logits: tf.Tensor, token_ids: tf.Tensor, row_lengths: tf.Tensor, tag_ids: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the loss of a training batch by the trained transitions and the number of tokens; see `crf`."""
        assert self.tagger.transitions is not None
        scheme = bio_scheme(self.tagger.tag_count) if self.scheme is None else self.scheme
        transitions = tf.convert_to_tensor(self.tagger.transitions)
        return sequence_loss(logits, row_lengths, tag_ids, transitions, scheme, self._continues_word(token_ids))

    def find_entities(self, token_ids: tf.RaggedTensor, start: tf.RaggedTensor, end: tf.RaggedTensor) -> Entities:
        """Finds the entities of texts from their tokens: int32 [B, (tokens)] each, offsets in code points."""
        return self.decode(self.tag_tokens(token_ids).logits, token_ids, start, end)

    def _continues_word(self, token_ids: tf.Tensor) -> tf.Tensor | None:
        return None if self._continuation is None else tf.gather(self._continuation, token_ids)
