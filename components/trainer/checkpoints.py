"""Pretrained encoders of every layout, loaded into a tagger."""

from __future__ import annotations

import pathlib

from components.trainer.checkpoint_google_research import load_google_research
from components.trainer.checkpoint_huggingface import load_hugging_face
from components.trainer.encoder_directory import detect_encoder_directory
from components.trainer.tagger import FusionTagger

_LOADERS = {"hugging_face": load_hugging_face, "google_research": load_google_research}


def load_encoder(tagger: FusionTagger, directory: str | pathlib.Path) -> None:
    """Loads the encoder's weights from a folder of either layout; fusion and classifier stay as they are.

    Args:
        tagger: built from `encoder_config_from_directory(directory)`.
        directory: a Hugging Face or a google-research folder.

    Raises:
        CheckpointError: a file is absent or damaged, or the tensors do not fit the tagger one to one.
    """
    _LOADERS[detect_encoder_directory(directory)](tagger, directory)
