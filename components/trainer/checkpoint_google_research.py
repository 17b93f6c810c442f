"""Weights from TensorFlow checkpoints: google-research/bert's encoder, and the whole tagger of the seed's code."""

from __future__ import annotations

import itertools
import pathlib
import re
from collections.abc import Container

import numpy
import tensorflow as tf

from components import progress
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.encoder_config import EncoderConfig
from components.trainer.encoder_directory import google_research_prefix
from components.trainer.tagger import FusionTagger
from components.trainer.weights import Destination, assign_weights, check_weight_types, encoder_variables

_LAYER_TENSORS = (
    "attention/output/dense/kernel",
    "attention/output/dense/bias",
    "attention/output/LayerNorm/gamma",
    "attention/output/LayerNorm/beta",
    "intermediate/dense/bias",
    "output/dense/kernel",
    "output/dense/bias",
    "output/LayerNorm/gamma",
    "output/LayerNorm/beta",
)
_EMBEDDING_TENSORS = (
    "word_embeddings",
    "token_type_embeddings",
    "position_embeddings",
    "LayerNorm/gamma",
    "LayerNorm/beta",
)
# What `EncoderLayer` stores transposed.
_TRANSPOSED = "intermediate/dense/kernel"
_ATTENTION_INPUTS = ("query", "key", "value")

# What a checkpoint may carry beside the model: the pooler, the pretraining heads, the scale of the loss in mixed
# precision, and what optimisers keep, of which `_slot` knows the rest.
_DROPPED = re.compile(
    r"bert/pooler/.*|cls/.*|global_step|.*/adam_[mv]|.*/Adam(_1)?"
    r"|(.*/)?(beta[12]_power|current_loss_scale|loss_scale|good_steps|bad_steps)(_\d+)?"
)
_AVERAGE = re.compile("average", re.IGNORECASE)

# TensorFlow's reader translates its errors into these: IndexError where a data file ends too early.
_DAMAGES = (tf.errors.OpError, ValueError, RuntimeError, IndexError)


def google_research_names(config: EncoderConfig) -> dict[str, Destination]:
    """Returns where each tensor of a google-research/bert encoder goes, by its name in the checkpoint.

    Example:
        >>> google_research_names(config)["bert/embeddings/word_embeddings"].variable
        'bert/embeddings/word_embeddings'
    """
    names = [f"bert/embeddings/{tensor}" for tensor in _EMBEDDING_TENSORS]
    destinations = {}
    for index in range(config.num_layers):
        layer = f"bert/encoder/layer_{index}"
        names += [f"{layer}/{tensor}" for tensor in _LAYER_TENSORS]
        for part, attention_input in enumerate(_ATTENTION_INPUTS):
            for tensor in ("kernel", "bias"):
                destinations[f"{layer}/attention/self/{attention_input}/{tensor}"] = Destination(
                    f"{layer}/attention/self/query_key_value/{tensor}", part=part, part_count=len(_ATTENTION_INPUTS)
                )
        destinations[f"{layer}/{_TRANSPOSED}"] = Destination(f"{layer}/{_TRANSPOSED}_transposed", transpose=True)
    return {name: Destination(name) for name in names} | destinations


def seed_names(config: EncoderConfig) -> dict[str, Destination]:
    """Returns where each tensor of the seed's tagger goes: those of the encoder, the `layer_logit`s, the classifier."""
    head = [f"layer_logit{index}/{tensor}" for index in range(config.num_layers) for tensor in ("kernel", "bias")]
    head += ["output_weights", "output_bias"]
    return google_research_names(config) | {name: Destination(name) for name in head}


def load_google_research(tagger: FusionTagger, directory: str | pathlib.Path) -> None:
    """Loads the encoder's weights from a folder of google-research/bert; fusion and classifier stay as they are.

    Args:
        tagger: built from the `bert_config.json` of the folder.
        directory: holds `bert_model.ckpt.*`, or one checkpoint of another name.

    Raises:
        CheckpointError: the checkpoint is absent, damaged, or its tensors do not fit.
    """
    prefix = google_research_prefix(directory)
    names = google_research_names(tagger.encoder_config)
    _load(encoder_variables(tagger.named_variables()), names, prefix)


def load_seed_checkpoint(tagger: FusionTagger, prefix: str | pathlib.Path) -> None:
    """Loads encoder, fusion and classifier from a checkpoint that the seed's code wrote.

    Args:
        tagger: has the fusion "dynamic" and the checkpoint's number of tags.
        prefix: the checkpoint without `.index` and `.data-*`, as `tf.compat.v1.train.Saver.save` returned it.

    Raises:
        CheckpointError: the checkpoint is absent, damaged, or its tensors do not fit.
        ValueError: the tagger has another fusion.
    """
    _load(tagger.named_variables(), seed_names(tagger.encoder_config), pathlib.Path(prefix))


def checkpoint_shapes(prefix: str | pathlib.Path, names: Container[str]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors in a checkpoint, without optimiser slots, pooler and pretraining heads.

    Args:
        prefix: the checkpoint without `.index` and `.data-*`.
        names: of the model's tensors; what stands below one of them is kept of it by an optimiser.

    Raises:
        CheckpointError: the checkpoint is absent or damaged.
    """
    return _shapes(_open(pathlib.Path(prefix)), names)


def _shapes(reader: tf.train.CheckpointReader, names: Container[str]) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(shape)
        for name, shape in reader.get_variable_to_shape_map().items()
        if name in names or not (_DROPPED.fullmatch(name) or _slot(name, names))
    }


def _load(variables: dict[str, tf.Variable], names: dict[str, Destination], prefix: pathlib.Path) -> None:
    reader = _open(prefix)

    def read(name: str) -> numpy.ndarray:
        try:
            return reader.get_tensor(name)
        except _DAMAGES as error:
            raise CheckpointError(
                f"{prefix}: the tensor {name} cannot be read; the file is damaged: {error}"
            ) from error

    types = {name: dtype.name for name, dtype in reader.get_variable_to_dtype_map().items()}
    check_weight_types(types, names, str(prefix))
    assign_weights(variables, names, _shapes(reader, names), read, str(prefix))
    averages = sorted(name for name in types if _AVERAGE.search(_slot(name, names)))
    if averages:
        progress.report(f"{prefix}: averaged weights are in the checkpoint and not used, such as {averages[0]}")


def _slot(name: str, names: Container[str]) -> str:
    """Returns what stands behind the name of a tensor of the model, before which that of an optimiser may stand, or "".

    Example:
        >>> _slot("LAMB/output_bias/m", {"output_bias"})
        'm'
    """
    parts = name.split("/")
    for first, end in itertools.combinations(range(len(parts)), 2):
        if "/".join(parts[first:end]) in names:
            return "/".join(parts[end:])
    return ""


def _open(prefix: pathlib.Path) -> tf.train.CheckpointReader:
    # Not `with_name`, which refuses the folder ".".
    if not (prefix.parent / f"{prefix.name}.index").is_file():
        if prefix.is_dir():
            found = ", ".join(sorted(path.stem for path in prefix.glob("*.index")))
            raise CheckpointError(
                f"{prefix}: is a folder; expected the path of a checkpoint without .index; "
                f"{f'in it lie {found}' if found else 'none lies in it'}"
            )
        raise CheckpointError(f"{prefix}.index: there is no such file; give the checkpoint's path without .index")
    _check_data_files(prefix)
    try:
        return tf.train.load_checkpoint(str(prefix))
    except _DAMAGES as error:
        raise CheckpointError(f"{prefix}.index: cannot be read; the file is damaged: {error}") from error


def _check_data_files(prefix: pathlib.Path) -> None:
    present = sorted(path.name for path in prefix.parent.glob(f"{prefix.name}.data-*-of-*"))
    if not present:
        raise CheckpointError(f"{prefix}: the checkpoint has no data file {prefix.name}.data-00000-of-00001")
    count = int(present[0].rpartition("-")[2])
    missing = {f"{prefix.name}.data-{index:05d}-of-{count:05d}" for index in range(count)}.difference(present)
    if missing:
        raise CheckpointError(f"{prefix}: data files are missing: {', '.join(sorted(missing))}")
