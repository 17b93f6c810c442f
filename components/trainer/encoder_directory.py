"""Folders of pretrained encoders: which layout one has, what its configuration says. Light: imports no TensorFlow."""

from __future__ import annotations

import pathlib
from typing import Literal

from components import progress
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.encoder_config import EncoderConfig
from components.trainer.json_file import read_json_object

Layout = Literal["hugging_face", "google_research"]

HUGGING_FACE_CONFIG = "config.json"
SAFETENSORS = "model.safetensors"
TORCH = "pytorch_model.bin"
GOOGLE_RESEARCH_CONFIG = "bert_config.json"
GOOGLE_RESEARCH_CHECKPOINT = "bert_model.ckpt"

# Files of weights, with the suffix of an index where they are in shards; the first that is there is read.
_INDEX = ".index.json"
_HUGGING_FACE_WEIGHTS = (SAFETENSORS, TORCH)


def detect_encoder_directory(directory: str | pathlib.Path) -> Layout:
    """Returns the layout of a folder with a pretrained encoder.

    A checkpoint of google-research goes before `pytorch_model.bin`, which is a pickle.

    Raises:
        CheckpointError: the folder is absent, holds neither layout, or its weights are in another format.
    """
    folder = pathlib.Path(directory)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder; give the folder of a pretrained encoder")
    if (folder / HUGGING_FACE_CONFIG).is_file() and _has_weights(folder, SAFETENSORS):
        return "hugging_face"
    if (folder / GOOGLE_RESEARCH_CONFIG).is_file() and any(folder.glob("*.index")):
        return "google_research"
    if hugging_face_config(folder).is_file() and any(_has_weights(folder, name) for name in _HUGGING_FACE_WEIGHTS):
        return "hugging_face"
    raise CheckpointError(
        f"{folder}: expected {HUGGING_FACE_CONFIG} with {SAFETENSORS} or {TORCH} (Hugging Face), or "
        f"{GOOGLE_RESEARCH_CONFIG} with {GOOGLE_RESEARCH_CHECKPOINT}.* (google-research)"
    )


def hugging_face_config(directory: pathlib.Path) -> pathlib.Path:
    """Returns the configuration in a Hugging Face folder; some publishers kept google-research's name for it."""
    path = directory / HUGGING_FACE_CONFIG
    return path if path.is_file() else directory / GOOGLE_RESEARCH_CONFIG


def hugging_face_weights(directory: str | pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of weights in a Hugging Face folder: safetensors if there are any, else PyTorch's own.

    Raises:
        CheckpointError: there are none, or an index of shards is damaged or names files that are missing.
    """
    folder = pathlib.Path(directory)
    for name in _HUGGING_FACE_WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}{_INDEX}").is_file():
            return _shards(folder / f"{name}{_INDEX}")
    raise CheckpointError(f"{folder / SAFETENSORS}: there is no such file, nor {SAFETENSORS}{_INDEX} or {TORCH}")


def _has_weights(folder: pathlib.Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / f"{name}{_INDEX}").is_file()


def _shards(index: pathlib.Path) -> list[pathlib.Path]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map: expected the file of each tensor; received {weight_map!r}")
    for tensor, file in weight_map.items():
        if not isinstance(file, str):
            raise CheckpointError(f"{index}: weight_map: expected the name of a file for {tensor}; received {file!r}")
    shards = sorted(set(weight_map.values()))
    missing = [shard for shard in shards if not (index.parent / shard).is_file()]
    if missing:
        raise CheckpointError(f"{index}: shards are missing: {', '.join(missing)}")
    return [index.parent / shard for shard in shards]


def encoder_config_from_directory(directory: str | pathlib.Path) -> EncoderConfig:
    """Returns the shape of the encoder in a folder of either layout.

    Raises:
        CheckpointError: the folder holds neither layout, or its configuration is broken or not supported.
    """
    folder = pathlib.Path(directory)
    if detect_encoder_directory(folder) == "hugging_face":
        return EncoderConfig.from_hugging_face(hugging_face_config(folder))
    return EncoderConfig.from_google_research(folder / GOOGLE_RESEARCH_CONFIG)


def check_weight_files(directory: str | pathlib.Path) -> None:
    """Refuses a folder whose files of weights are not all there; what is in them is not read.

    Raises:
        CheckpointError: files are missing, or it is not clear which are meant.
    """
    if detect_encoder_directory(directory) == "hugging_face":
        hugging_face_weights(directory)
    else:
        google_research_prefix(directory)


def check_vocabulary_size(config: EncoderConfig, token_count: int, source: str, *, exactly: bool = False) -> None:
    """Refuses a vocabulary that does not belong to the encoder; fewer tokens than word embeddings are reported.

    Some publishers pad the table, to a multiple of 8 or for tokens to come; rows without a token are never read.

    Args:
        config: shape of the encoder.
        token_count: number of tokens of the vocabulary.
        source: the vocabulary's file, for the message.
        exactly: refuses fewer tokens, too.

    Raises:
        CheckpointError: the vocabulary has more tokens than the word embedding table has rows.
    """
    if token_count > config.vocab_size or (exactly and token_count != config.vocab_size):
        raise CheckpointError(
            f"{source}: has {token_count} tokens, but the encoder has {config.vocab_size} word embeddings; "
            f"use the vocabulary with which the encoder was pretrained"
        )
    if token_count < config.vocab_size:
        progress.report(
            f"{source}: has {token_count} tokens, and the encoder {config.vocab_size} word embeddings, so the last "
            f"{config.vocab_size - token_count} have none: a padded table, or the vocabulary of another encoder"
        )


def google_research_prefix(directory: str | pathlib.Path) -> pathlib.Path:
    """Returns the prefix of the checkpoint in a google-research folder: `bert_model.ckpt`, or the only one there.

    Raises:
        CheckpointError: there is no checkpoint, or there are several and none is called `bert_model.ckpt`.
    """
    folder = pathlib.Path(directory)
    prefixes = sorted(path.with_suffix("") for path in folder.glob("*.index"))
    if folder / GOOGLE_RESEARCH_CHECKPOINT in prefixes:
        return folder / GOOGLE_RESEARCH_CHECKPOINT
    if len(prefixes) != 1:
        found = ", ".join(prefix.name for prefix in prefixes) or "none"
        raise CheckpointError(f"{folder}: expected {GOOGLE_RESEARCH_CHECKPOINT}.index or one other; found {found}")
    return prefixes[0]
