"""The shape of a BERT encoder, and its readers for the two configuration layouts in use."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from components.settings import SettingsError, check, parse_settings
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.json_file import read_json_object

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

# google-research/bert computes its "gelu" by the tanh approximation; Hugging Face's "gelu" is the exact erf form.
_GOOGLE_RESEARCH_ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu"}
_HUGGING_FACE_ACTIVATIONS = {name: name for name in ACTIVATIONS}

_REQUIRED_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
}
_OPTIONAL_KEYS = {
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "type_vocab_size",
    "hidden_dropout_prob": "hidden_dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "initializer_range": "initializer_range",
}
_EPSILON_KEY = "layer_norm_eps"  # of Hugging Face only


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The shape of a BERT encoder.

    Args:
        vocab_size: rows of the word embedding table.
        hidden_size: width H of every layer; a multiple of `num_heads`.
        num_layers: number L of layers.
        num_heads: attention heads of each layer.
        intermediate_size: width of the feed-forward layer.
        max_positions: longest row the encoder takes, [CLS] and [SEP] included.
        type_vocab_size: rows of the token type table, of which only row 0 is read.
        hidden_activation: "gelu" (exact, by erf), "gelu_new" and its synonym "gelu_pytorch_tanh" (tanh approximation,
            as in google-research/bert), or "relu".
        layer_norm_epsilon: added to the variance in every LayerNorm.
        hidden_dropout: dropout rate of the embeddings and of both dense outputs of a layer while training.
        attention_dropout: dropout rate of the attention probabilities while training.
        initializer_range: standard deviation of the truncated normal that initialises kernels and embeddings.

    Raises:
        SettingsError: a value is impossible.
    """

    vocab_size: int
    hidden_size: int = 256
    num_layers: int = 4
    num_heads: int = 4
    intermediate_size: int = 1024
    max_positions: int = 512
    type_vocab_size: int = 2
    hidden_activation: str = "gelu_new"
    layer_norm_epsilon: float = 1e-12
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name in (*_REQUIRED_KEYS.values(), "max_positions", "type_vocab_size"):
            check(getattr(self, name) > 0, name, "a positive number", getattr(self, name))
        check(
            self.hidden_size % self.num_heads == 0,
            "hidden_size",
            f"a multiple of num_heads, {self.num_heads}",
            self.hidden_size,
        )
        check(
            self.hidden_activation in ACTIVATIONS,
            "hidden_activation",
            f"one of {', '.join(ACTIVATIONS)}",
            self.hidden_activation,
        )
        check(
            0 < self.layer_norm_epsilon < 1, "layer_norm_epsilon", "a number between 0 and 1", self.layer_norm_epsilon
        )
        for name in ("hidden_dropout", "attention_dropout"):
            check(0 <= getattr(self, name) < 1, name, "a rate of at least 0 and below 1", getattr(self, name))
        check(self.initializer_range > 0, "initializer_range", "a positive number", self.initializer_range)

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @classmethod
    def from_google_research(cls, path: str | pathlib.Path) -> EncoderConfig:
        """Reads a `bert_config.json` of google-research/bert.

        Raises:
            CheckpointError: the file is absent, no JSON object, lacks a key or holds an impossible value.
        """
        values = read_json_object(path)
        return _config(
            path,
            values,
            activations=_GOOGLE_RESEARCH_ACTIVATIONS,
            default_type_vocab_size=16,
            layer_norm_epsilon=1e-12,
        )

    @classmethod
    def from_hugging_face(cls, path: str | pathlib.Path) -> EncoderConfig:
        """Reads a `config.json` of a Hugging Face BERT.

        Raises:
            CheckpointError: the file is absent, no JSON object, lacks a key, holds an impossible value, or describes
                another architecture than BERT's encoder with absolute positions.
        """
        values = read_json_object(path)
        supported: tuple[tuple[str, object, object], ...] = (
            ("model_type", "bert", "bert"),
            ("position_embedding_type", "absolute", "absolute"),
            ("is_decoder", False, False),
            ("add_cross_attention", False, False),
        )
        for key, only, default in supported:
            if values.get(key, default) != only:
                raise CheckpointError(
                    f"{path}: {key}: expected {only!r}; received {values[key]!r}, which is no encoder of BERT"
                )
        _check_architecture(path, values)
        return _config(
            path,
            values,
            activations=_HUGGING_FACE_ACTIVATIONS,
            default_type_vocab_size=2,
            layer_norm_epsilon=values.get(_EPSILON_KEY, 1e-12),
        )


def _check_architecture(path: str | pathlib.Path, values: Mapping[str, Any]) -> None:
    """Old files name no `model_type`; RoBERTa's tensors have BERT's names and shapes, and its positions begin at 2."""
    if "model_type" in values:
        return
    architectures = values.get("architectures")
    if architectures:
        names = architectures if isinstance(architectures, list) else [architectures]
        other = [name for name in names if not (isinstance(name, str) and name.startswith("Bert"))]
        if other:
            raise CheckpointError(f"{path}: architectures: expected BERT's; received {other[0]!r}, and no model_type")
    elif values.get("pad_token_id") == 1:
        raise CheckpointError(
            f"{path}: pad_token_id: expected 0; received 1, which is RoBERTa's; a BERT with it needs model_type 'bert'"
        )


def _config(
    path: str | pathlib.Path,
    values: Mapping[str, Any],
    *,
    activations: Mapping[str, str],
    default_type_vocab_size: int,
    layer_norm_epsilon: object,
) -> EncoderConfig:
    missing = [key for key in _REQUIRED_KEYS if key not in values]
    if missing:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}, which the shape of a BERT needs")
    activation = values.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in activations:
        raise CheckpointError(
            f"{path}: hidden_act: expected one of {', '.join(sorted(activations))}; received {activation!r}"
        )
    keys = _REQUIRED_KEYS | _OPTIONAL_KEYS
    arguments = {ours: values[key] for key, ours in keys.items() if key in values}
    arguments.setdefault("type_vocab_size", default_type_vocab_size)
    arguments["hidden_activation"] = activations[activation]
    arguments["layer_norm_epsilon"] = layer_norm_epsilon
    try:
        return parse_settings(EncoderConfig, arguments)
    except SettingsError as error:
        raise CheckpointError(f"{path}: {_in_the_words_of_the_file(str(error))}") from error


def _in_the_words_of_the_file(message: str) -> str:
    """Names settings as the file does.

    Example:
        >>> _in_the_words_of_the_file("hidden_size: expected a multiple of num_heads, 7; received 768")
        'hidden_size: expected a multiple of num_attention_heads, 7; received 768'
    """
    theirs = {ours: key for key, ours in (_REQUIRED_KEYS | _OPTIONAL_KEYS).items()}
    theirs["layer_norm_epsilon"] = _EPSILON_KEY
    return re.sub(r"\w+", lambda word: theirs.get(word[0], word[0]), message)
