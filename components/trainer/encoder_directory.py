"""Folders of pretrained encoders: which layout one has, what its configuration says. Light: imports no TensorFlow."""

from __future__ import annotations

import pathlib
from typing import Literal

from components.trainer.checkpoint_error import CheckpointError
from components.trainer.encoder_config import EncoderConfig

Layout = Literal["hugging_face", "google_research"]

HUGGING_FACE_CONFIG = "config.json"
SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
GOOGLE_RESEARCH_CONFIG = "bert_config.json"
GOOGLE_RESEARCH_CHECKPOINT = "bert_model.ckpt"


def detect_encoder_directory(directory: str | pathlib.Path) -> Layout:
    """Returns the layout of a folder with a pretrained encoder.

    Raises:
        CheckpointError: the folder is absent, holds neither layout, or its weights are in another format.
    """
    folder = pathlib.Path(directory)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder; give the folder of a pretrained encoder")
    if (folder / HUGGING_FACE_CONFIG).is_file() and any(
        (folder / name).is_file() for name in (SAFETENSORS, SAFETENSORS_INDEX)
    ):
        return "hugging_face"
    if (folder / GOOGLE_RESEARCH_CONFIG).is_file() and any(folder.glob("*.index")):
        return "google_research"
    remedy = ""
    if (folder / "pytorch_model.bin").is_file():
        remedy = "; convert pytorch_model.bin with transformers' save_pretrained(..., safe_serialization=True)"
    raise CheckpointError(
        f"{folder}: expected {HUGGING_FACE_CONFIG} with {SAFETENSORS} (Hugging Face), or {GOOGLE_RESEARCH_CONFIG} "
        f"with {GOOGLE_RESEARCH_CHECKPOINT}.* (google-research){remedy}"
    )


def encoder_config_from_directory(directory: str | pathlib.Path) -> EncoderConfig:
    """Returns the shape of the encoder in a folder of either layout.

    Raises:
        CheckpointError: the folder holds neither layout, or its configuration is broken or not supported.
    """
    folder = pathlib.Path(directory)
    if detect_encoder_directory(folder) == "hugging_face":
        return EncoderConfig.from_hugging_face(folder / HUGGING_FACE_CONFIG)
    return EncoderConfig.from_google_research(folder / GOOGLE_RESEARCH_CONFIG)


def check_vocabulary_size(config: EncoderConfig, token_count: int, source: str) -> None:
    """Refuses a vocabulary that does not belong to the encoder.

    Args:
        config: shape of the encoder.
        token_count: number of tokens of the vocabulary.
        source: the vocabulary's file, for the message.

    Raises:
        CheckpointError: the vocabulary has not one token for each row of the word embedding table.
    """
    if token_count != config.vocab_size:
        raise CheckpointError(
            f"{source}: has {token_count} tokens, but the encoder has {config.vocab_size} word embeddings; "
            f"use the vocabulary with which the encoder was pretrained"
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
