"""Weights of the encoder from a Hugging Face BERT in safetensors files, or in PyTorch's."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy
import safetensors

from components.trainer.checkpoint_error import CheckpointError
from components.trainer.checkpoint_google_research import google_research_names
from components.trainer.encoder_config import EncoderConfig
from components.trainer.encoder_directory import hugging_face_weights
from components.trainer.tagger import FusionTagger
from components.trainer.torch_file import torch_tensors
from components.trainer.weights import Destination, assign_weights, check_weight_types, encoder_variables

_SAFETENSORS_SUFFIX = ".safetensors"
_SAFETENSORS_TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}

# The pooler, the pretraining heads and TinyBERT's fit to the width of its teacher are no part of a tagger, and
# position_ids counts 0, 1, 2, ...
_DROPPED = re.compile(r"pooler\..*|cls\..*|fit_dense\..*|embeddings\.position_ids")


def hugging_face_names(config: EncoderConfig) -> dict[str, Destination]:
    """Returns where each tensor of a Hugging Face BERT goes, by its name without the prefix "bert.".

    Example:
        >>> hugging_face_names(config)["encoder.layer.0.output.dense.weight"].variable
        'bert/encoder/layer_0/output/dense/kernel'
    """
    names = {}
    for google_name, destination in google_research_names(config).items():
        name = re.sub(r"/layer_(\d+)/", r"/layer/\1/", google_name.removeprefix("bert/"))
        path, _, tensor = name.rpartition("/")
        module = path if tensor in _TENSOR_NAMES else name
        hugging_face_name = f"{module.replace('/', '.')}.{_TENSOR_NAMES.get(tensor, 'weight')}"
        # PyTorch's linear layers store their kernels transposed.
        transpose = destination.transpose != (tensor == "kernel")
        names[hugging_face_name] = dataclasses.replace(destination, transpose=transpose)
    return names


# Our last name -> Hugging Face's; embedding tables have none of ours and are called "weight".
_TENSOR_NAMES = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def load_hugging_face(tagger: FusionTagger, directory: str | pathlib.Path) -> None:
    """Loads the encoder's weights from `model.safetensors` or `pytorch_model.bin`; fusion and classifier stay.

    Args:
        tagger: built from the configuration of the folder.
        directory: holds the weights, whole or as shards with their index.

    Raises:
        CheckpointError: a file is absent or damaged, or the tensors do not fit.
    """
    tensors: dict[str, _StoredTensor] = {}
    for path in hugging_face_weights(directory):
        for stored_name, tensor in _read_file(path).items():
            name = _canonical_name(stored_name)
            if _DROPPED.fullmatch(name):
                continue
            if name in tensors:
                raise CheckpointError(f"{path}: the tensor {name} occurs twice, the second time as {stored_name}")
            tensors[name] = tensor
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    variables = encoder_variables(tagger.named_variables())
    names = hugging_face_names(tagger.encoder_config)
    check_weight_types({name: tensor.type_name for name, tensor in tensors.items()}, names, str(directory))
    assign_weights(variables, names, shapes, lambda name: tensors[name].read(), str(directory))


class _StoredTensor(NamedTuple):
    shape: tuple[int, ...]
    type_name: str
    read: Callable[[], numpy.ndarray]


def _read_file(path: pathlib.Path) -> Mapping[str, _StoredTensor]:
    if path.suffix == _SAFETENSORS_SUFFIX:
        return _read_safetensors(path)
    return {
        name: _StoredTensor(tensor.shape, tensor.dtype.name, tensor.read)
        for name, tensor in torch_tensors(path).items()
    }


def _read_safetensors(path: pathlib.Path) -> dict[str, _StoredTensor]:
    try:
        file = safetensors.safe_open(path, framework="numpy")
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read; the file is damaged: {error}") from error
    tensors = {}
    names = file.keys()
    for name in names:
        description = file.get_slice(name)
        stored_type = description.get_dtype()
        tensors[name] = _StoredTensor(
            tuple(description.get_shape()),
            _SAFETENSORS_TYPES.get(stored_type, stored_type),
            functools.partial(file.get_tensor, name),
        )
    return tensors


def _canonical_name(name: str) -> str:
    """Drops the prefix "bert." of taggers and pretraining models, and renames gamma and beta of old conversions."""
    name = name.removeprefix("bert.")
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda match: f"LayerNorm.{_TENSOR_NAMES[match[1]]}", name)
