"""Weights of the encoder from a Hugging Face BERT in safetensors files."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re

import numpy
import safetensors

from components.trainer.checkpoint_error import CheckpointError
from components.trainer.checkpoint_google_research import google_research_names
from components.trainer.encoder_config import EncoderConfig
from components.trainer.encoder_directory import SAFETENSORS, SAFETENSORS_INDEX
from components.trainer.tagger import FusionTagger
from components.trainer.weights import Destination, assign_weights, encoder_variables

# The pooler and the pretraining heads are no part of a tagger, and position_ids counts 0, 1, 2, ...
_DROPPED = re.compile(r"pooler\..*|cls\..*|embeddings\.position_ids")


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
    """Loads the encoder's weights from `model.safetensors`, whole or sharded; fusion and classifier stay as they are.

    Args:
        tagger: built from the `config.json` of the folder.
        directory: holds `model.safetensors` or `model.safetensors.index.json` with its shards.

    Raises:
        CheckpointError: a file is absent or damaged, or the tensors do not fit.
    """
    tensors: dict[str, tuple[safetensors.safe_open, str]] = {}
    for path in _safetensors_files(pathlib.Path(directory)):
        file = _open(path)
        stored_names = file.keys()
        for stored_name in stored_names:
            name = _canonical_name(stored_name)
            if _DROPPED.fullmatch(name):
                continue
            if name in tensors:
                raise CheckpointError(f"{path}: the tensor {name} occurs twice, the second time as {stored_name}")
            tensors[name] = (file, stored_name)

    def read(name: str) -> numpy.ndarray:
        file, stored_name = tensors[name]
        return file.get_tensor(stored_name)

    shapes = {name: tuple(file.get_slice(stored).get_shape()) for name, (file, stored) in tensors.items()}
    variables = encoder_variables(tagger.named_variables())
    assign_weights(variables, hugging_face_names(tagger.encoder_config), shapes, read, str(directory))


def _safetensors_files(directory: pathlib.Path) -> list[pathlib.Path]:
    if (directory / SAFETENSORS).is_file():
        return [directory / SAFETENSORS]
    index = directory / SAFETENSORS_INDEX
    if not index.is_file():
        raise CheckpointError(f"{directory / SAFETENSORS}: there is no such file, nor {SAFETENSORS_INDEX}")
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: is no index of shards: {error!r}") from error
    missing = [shard for shard in shards if not (directory / shard).is_file()]
    if missing:
        raise CheckpointError(f"{index}: shards are missing: {', '.join(missing)}")
    return [directory / shard for shard in shards]


def _open(path: pathlib.Path) -> safetensors.safe_open:
    try:
        return safetensors.safe_open(path, framework="numpy")
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read; the file is damaged: {error}") from error


def _canonical_name(name: str) -> str:
    """Drops the prefix "bert." of taggers and pretraining models, and renames gamma and beta of old conversions."""
    name = name.removeprefix("bert.")
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda match: f"LayerNorm.{_TENSOR_NAMES[match[1]]}", name)
