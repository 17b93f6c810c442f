"""BERT's encoder on packed rows: all dense work on real tokens, padding only inside attention.

Axes: N packed tokens, P padded places, b rows of a group, s its longest row, H hidden size, n heads, d head size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import tensorflow as tf

from components.trainer.dropout import dropout
from components.trainer.encoder_config import EncoderConfig
from components.trainer.packing import RowGroup, RowPlan, merge_heads, split_heads

# Added to the scores of padding keys: after the softmax such a key weighs exactly 0.
_MASKED_SCORE = -1e9

Initializer = Callable[[tuple[int, ...]], tf.Tensor]


def truncated_normal(standard_deviation: float, seed: int | None) -> Initializer:
    """Returns an initialiser that draws from the next seed at every call: the same `seed` gives the same model."""
    counter = itertools.count()

    def initialize(shape: tuple[int, ...]) -> tf.Tensor:
        if seed is None:
            return tf.random.truncated_normal(shape, stddev=standard_deviation)
        return tf.random.stateless_truncated_normal(shape, seed=(seed, next(counter)), stddev=standard_deviation)

    return initialize


class Dense(tf.Module):
    """`inputs · kernel + bias` for inputs [N, in]; the kernel is [in, out], or [out, in] if it is stored transposed."""

    def __init__(
        self,
        name: str,
        in_size: int,
        out_size: int,
        initializer: Initializer,
        dtype: tf.DType,
        *,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self._transposed = transposed
        kernel = tf.cast(initializer((in_size, out_size)), dtype)
        if transposed:
            self.kernel = tf.Variable(tf.transpose(kernel), name=f"{name}/kernel_transposed")
        else:
            self.kernel = tf.Variable(kernel, name=f"{name}/kernel")
        self.bias = tf.Variable(tf.zeros([out_size]), name=f"{name}/bias")

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel, bias = tf.cast(self.kernel, inputs.dtype), tf.cast(self.bias, inputs.dtype)
        return tf.nn.bias_add(tf.matmul(inputs, kernel, transpose_b=self._transposed), bias)


class LayerNorm(tf.Module):
    """Normalises the last axis in float32 and returns the type of its input."""

    def __init__(self, name: str, size: int, epsilon: float) -> None:
        super().__init__()
        self.gamma = tf.Variable(tf.ones([size]), name=f"{name}/gamma")
        self.beta = tf.Variable(tf.zeros([size]), name=f"{name}/beta")
        self._epsilon = epsilon

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        values = tf.cast(inputs, tf.float32)
        # Two thirds of the time of `tf.nn.moments` and `tf.nn.batch_normalization`: four writes of [N, H], not six.
        centered = values - tf.reduce_mean(values, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
        scale = tf.math.rsqrt(variance + self._epsilon) * self.gamma
        return tf.cast(tf.nn.bias_add(centered * scale, self.beta), inputs.dtype)


class Embeddings(tf.Module):
    """LayerNorm of word + token type + position embeddings. The token type is 0 everywhere, and its row is added."""

    def __init__(self, config: EncoderConfig, initializer: Initializer, dtype: tf.DType) -> None:
        super().__init__()
        self._dropout = config.hidden_dropout

        def table(name: str, rows: int) -> tf.Variable:
            values = tf.cast(initializer((rows, config.hidden_size)), dtype)
            return tf.Variable(values, name=f"bert/embeddings/{name}")

        self.word_embeddings = table("word_embeddings", config.vocab_size)
        self.token_type_embeddings = table("token_type_embeddings", config.type_vocab_size)
        self.position_embeddings = table("position_embeddings", config.max_positions)
        self.layer_norm = LayerNorm("bert/embeddings/LayerNorm", config.hidden_size, config.layer_norm_epsilon)

    def __call__(
        self, token_ids: tf.Tensor, position_ids: tf.Tensor, *, compute_dtype: tf.DType, training: bool
    ) -> tf.Tensor:
        total = tf.add_n(
            [
                tf.cast(tf.gather(self.word_embeddings, token_ids), tf.float32),
                tf.cast(tf.gather(self.position_embeddings, position_ids), tf.float32),
            ]
        )
        total += tf.cast(self.token_type_embeddings[0], tf.float32)
        return dropout(tf.cast(self.layer_norm(total), compute_dtype), self._dropout, training=training)


class EncoderLayer(tf.Module):
    """Self-attention and feed-forward network, each followed by residual and LayerNorm (post-LN)."""

    def __init__(self, name: str, config: EncoderConfig, initializer: Initializer, dtype: tf.DType) -> None:
        super().__init__()
        self._config = config
        hidden, inner, epsilon = config.hidden_size, config.intermediate_size, config.layer_norm_epsilon
        # Query, key and value stand side by side in one kernel: one matrix product and one gather instead of three.
        self.attention = Dense(f"{name}/attention/self/query_key_value", hidden, 3 * hidden, initializer, dtype)
        self.attention_output = Dense(f"{name}/attention/output/dense", hidden, hidden, initializer, dtype)
        self.attention_norm = LayerNorm(f"{name}/attention/output/LayerNorm", hidden, epsilon)
        # For fewer than 300 tokens oneDNN multiplies on AVX2 without copying, down the columns of the kernel. Rows of
        # 3072 or 4096 floats lie a multiple of 4096 bytes apart and share few lines of the cache: at 256 tokens
        # 73 GFLOP/s, and 125 with the kernel transposed. From 320 tokens on both make the same.
        self.intermediate = Dense(f"{name}/intermediate/dense", hidden, inner, initializer, dtype, transposed=True)
        self.output = Dense(f"{name}/output/dense", inner, hidden, initializer, dtype)
        self.output_norm = LayerNorm(f"{name}/output/LayerNorm", hidden, epsilon)

    def __call__(self, hidden: tf.Tensor, plan: RowPlan, *, training: bool) -> tf.Tensor:
        rate = self._config.hidden_dropout
        context = self._attend(self.attention(hidden), plan, training=training)
        attended = dropout(self.attention_output(context), rate, training=training)
        hidden = self.attention_norm(hidden + attended)
        inner = activate(self.intermediate(hidden), self._config.hidden_activation)
        return self.output_norm(hidden + dropout(self.output(inner), rate, training=training))

    def _attend(self, query_key_value: tf.Tensor, plan: RowPlan, *, training: bool) -> tf.Tensor:
        """Returns the attention contexts [N, H] from the projections [N, 3 H]."""
        parts = split_heads(query_key_value, plan, self._config.head_size)
        contexts = [
            self._attend_group(part, group, training=training) for part, group in zip(parts, plan.groups, strict=True)
        ]
        return merge_heads(contexts, plan)

    def _attend_group(self, query_key_value: tf.Tensor, group: RowGroup, *, training: bool) -> tf.Tensor:
        """Returns the contexts [b, n, s, d] of one group from its projections [3, b, n, s, d]."""
        query, key, value = tf.unstack(query_key_value)
        masked = tf.where(group.attended, 0.0, _MASKED_SCORE)[:, tf.newaxis, tf.newaxis, :]
        # Scaled after the product and not before: oneDNN then computes product, scale and mask in one operation.
        scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32) * self._config.head_size**-0.5
        weights = tf.nn.softmax(scores + masked)  # [b, n, s, s]
        weights = dropout(tf.cast(weights, value.dtype), self._config.attention_dropout, training=training)
        return tf.matmul(weights, value)


def activate(values: tf.Tensor, name: str) -> tf.Tensor:
    """Applies the activation `name` of an EncoderConfig."""
    if name == "relu":
        return tf.nn.relu(values)
    if name == "gelu":
        # In this order of products the graph optimiser recognises it and, with oneDNN, merges it into the matrix
        # product before it: 8 to 10 % of a batch of tweets. That of `tf.nn.gelu` it does not.
        return values * (0.5 * (1.0 + tf.math.erf(values * 0.5**0.5)))
    return tf.nn.gelu(values, approximate=True)


class Encoder(tf.Module):
    """BERT's encoder without its pooler.

    Args:
        config: the shape.
        seed: makes the initial values reproducible; None draws them at random.
        compute_dtype: type of the matrix products; softmax and LayerNorm always compute in float32.
        variable_dtype: type in which the matrices are stored; biases and LayerNorms, a thousandth of the weights, are
            float32 always.
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        seed: int | None = None,
        compute_dtype: str = "float32",
        variable_dtype: str = "float32",
    ) -> None:
        super().__init__()
        self.config = config
        self._compute_dtype = tf.as_dtype(compute_dtype)
        dtype = tf.as_dtype(variable_dtype)
        initializer = truncated_normal(config.initializer_range, seed)
        self.embeddings = Embeddings(config, initializer, dtype)
        self.layers = [
            EncoderLayer(f"bert/encoder/layer_{index}", config, initializer, dtype)
            for index in range(config.num_layers)
        ]

    def __call__(self, token_ids: tf.Tensor, plan: RowPlan, *, training: bool = False) -> list[tf.Tensor]:
        """Encodes packed rows.

        Args:
            token_ids: int32 [N], the rows one after another.
            plan: `plan_rows(row_lengths, num_heads=config.num_heads)`.
            training: applies dropout.

        Returns:
            The outputs of the L layers, [N, H] each in the compute type; the embeddings are not among them.
        """
        hidden = self.embeddings(token_ids, plan.position_ids, compute_dtype=self._compute_dtype, training=training)
        outputs = []
        for layer in self.layers:
            hidden = layer(hidden, plan, training=training)
            outputs.append(hidden)
        return outputs
