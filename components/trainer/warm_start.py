"""Starting from the served version instead of the encoder: continuous training goes on where the last push ended."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Sequence

import tensorflow as tf

from components.pusher.model_card import ModelCard, ModelCardError, read_card
from components.pusher.versions import list_versions
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.settings import TrainerSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.transform.vocabulary import Vocabulary

_VARIABLES = "variables/variables"
_REMEDY = "train with the encoder, the fusion and the decoder of that version, or without warm_start"

# Fields of an encoder's configuration that do not change what its weights mean.
_OF_TRAINING_ONLY = ("hidden_dropout", "attention_dropout", "initializer_range")
_SYNONYMS = {"gelu_pytorch_tanh": "gelu_new"}


def newest_version(serving_directory: str | os.PathLike[str]) -> pathlib.Path | None:
    """Returns the folder of the newest version below `serving_directory`; None if nothing has been pushed yet."""
    folder = pathlib.Path(serving_directory)
    versions = list_versions(folder) if folder.is_dir() else ()
    return folder / str(max(versions)) if versions else None


def with_decisions(settings: TrainerSettings, version: pathlib.Path) -> TrainerSettings:
    """Returns the settings with what the texts of the version's training decided, where they leave it to the texts.

    A day's texts are few: they may seem to say otherwise, and the weights have learned one of the two. For a version
    that was converted no texts decided anything.

    Raises:
        CheckpointError: the version has no model card.
    """
    card = _read_card(version)
    trained = card.training.get("settings")
    if trained is None:
        return settings
    if settings.whole_words is None:
        settings = dataclasses.replace(settings, whole_words=card.model.get("whole_words"))
    # Under a loss of whole sequences the texts were not asked.
    were_asked = (trained.get("decoder"), trained.get("loss")) == ("softmax", "masked")
    if settings.annotated_by_whitespace is None and settings.loss_is_of_single_pieces and were_asked:
        settings = dataclasses.replace(settings, annotated_by_whitespace=card.model.get("annotated_by_whitespace"))
    return settings


def load_version(
    text_tagger: TextTagger, version: pathlib.Path, vocabulary: Vocabulary, tags: Sequence[str], *, lower_case: bool
) -> None:
    """Gives the model all weights of an exported version.

    Args:
        text_tagger: a model of the same shape; its precision may differ from the version's.
        version: the version's folder, with its model card.
        vocabulary: the vocabulary of this training.
        tags: its tags in id order.
        lower_case: whether its tokenizer lower-cases.

    Raises:
        CheckpointError: the version has another vocabulary or casing, other entity types, another shape or another
            architecture; a warm start would give its weights another meaning, silently.
    """
    card = _read_card(version)
    _check_meaning(card, version, vocabulary, tags, lower_case)
    _check_architecture(card, version, text_tagger.tagger)
    checkpoint = tf.train.Checkpoint(text_tagger=text_tagger)
    trained = text_tagger.tagger
    try:
        # Weights can be read only in the type in which they are stored.
        text_tagger.tagger = trained.in_precision(_stored_precision(version))
        checkpoint.read(str(version / _VARIABLES)).assert_existing_objects_matched()
        trained.assign_weights(text_tagger.tagger)
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"trainer.warm_start: the weights of {version} do not fit this model: {reason}; {_REMEDY}"
        ) from error
    finally:
        text_tagger.tagger = trained


def _stored_precision(version: pathlib.Path) -> str:
    types = set(tf.train.load_checkpoint(str(version / _VARIABLES)).get_variable_to_dtype_map().values())
    return next((dtype.name for dtype in (tf.bfloat16, tf.float16) if dtype in types), "float32")


def _read_card(version: pathlib.Path) -> ModelCard:
    try:
        card = read_card(version)
    except ModelCardError as error:
        raise CheckpointError(f"trainer.warm_start: {error}") from error
    if card is None or card.tokenizer.get("vocabulary_sha256") is None:
        raise CheckpointError(
            f"trainer.warm_start: {version} has no model card with the digest of its vocabulary, so nobody can tell "
            "whether its weights belong to this vocabulary; train once without warm_start"
        )
    return card


def _check_meaning(
    card: ModelCard, version: pathlib.Path, vocabulary: Vocabulary, tags: Sequence[str], lower_case: bool
) -> None:
    if card.tokenizer["vocabulary_sha256"] != hashlib.sha256(vocabulary.to_bytes()).hexdigest():
        raise CheckpointError(
            f"trainer.warm_start: {version} has another vocabulary. A learned vocabulary changes with the corpus: give "
            "a fixed one as transform.vocabulary"
        )
    theirs = card.tokenizer.get("lower_case", lower_case)
    if theirs != lower_case:
        raise CheckpointError(
            f"trainer.warm_start: {version} {'lower-cases' if theirs else 'keeps the case of'} its texts, and training "
            f"{'lower-cases them' if lower_case else 'keeps their case'}; set transform.lower_case as it has it"
        )
    labels = tuple(card.model.get("labels", tags))
    if labels != tuple(tags):
        raise CheckpointError(
            f"trainer.warm_start: {version} has the labels {', '.join(labels)}, and training has {', '.join(tags)}; "
            "train once without warm_start"
        )
    types = tuple(tag[2:] for tag in tags if tag.startswith("B-"))
    if card.types != types:
        raise CheckpointError(
            f"trainer.warm_start: {version} finds {', '.join(card.types)}, and the corpus has {', '.join(types)}; "
            "train once without warm_start"
        )


def _check_architecture(card: ModelCard, version: pathlib.Path, tagger: FusionTagger) -> None:
    """Refuses weights that have been trained for another computation; a card of an older program may say less of it."""
    stored, here = card.model.get("encoder", {}), dataclasses.asdict(tagger.encoder_config)
    compared = [(name, stored.get(name), value) for name, value in here.items() if name not in _OF_TRAINING_ONLY]
    compared += [
        ("the fusion", card.model.get("fusion"), tagger.fusion_name),
        # Softmax would drop the transitions of a conditional random field, beside which its classifier was trained.
        (
            "the decoder",
            (card.training.get("settings") or {}).get("decoder"),
            "softmax" if tagger.transitions is None else "crf",
        ),
    ]
    for name, theirs, ours in compared:
        if theirs is not None and _SYNONYMS.get(theirs, theirs) != _SYNONYMS.get(ours, ours):
            raise CheckpointError(
                f"trainer.warm_start: {version} has {name} {theirs}, and this training has {ours}; {_REMEDY}"
            )
