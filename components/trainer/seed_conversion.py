"""From a checkpoint of the seed's code to a served model: no training, the same numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import tempfile

from components import progress
from components.code_version import code_version, library_versions
from components.pusher.model_card import ModelCard, iso_time
from components.pusher.publish import PushedVersion, publish
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.checkpoint_google_research import checkpoint_shapes, load_seed_checkpoint, seed_names
from components.trainer.encoder_config import EncoderConfig
from components.trainer.encoder_directory import check_vocabulary_size
from components.trainer.label_scheme import LabelError, LabelScheme, label_scheme
from components.trainer.pieces import continuation_tokens
from components.trainer.servable import Servable, export
from components.trainer.settings import ServingWarmUpSettings, TrainerSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.trainer.warm_up import warm_up_requests, write_warm_up
from components.transform.tokenizer import Tokenizer
from components.transform.vocabulary import Vocabulary

_CLASSIFIER = "output_weights"


@dataclasses.dataclass(frozen=True)
class SeedModel:
    """The files of a model that the seed's code trained.

    Args:
        checkpoint: the checkpoint without `.index` and `.data-*`.
        bert_config: the `bert_config.json` of its encoder.
        vocabulary: its `vocab.txt`.
        labels: its tags, one a line in id order.
        lower_case: whether the vocabulary is uncased.
        iob1: whether the labels are IOB1, see `label_scheme`.
        precision: in which the model is served: "float32", "bfloat16" or "float16".
    """

    checkpoint: pathlib.Path
    bert_config: pathlib.Path
    vocabulary: pathlib.Path
    labels: pathlib.Path
    lower_case: bool = True
    iob1: bool = False
    precision: str = "float32"


def convert(model: SeedModel, serving_directory: str | os.PathLike[str], name: str) -> PushedVersion:
    """Publishes the model as the newest version of a serving directory, with all signatures, warm-up and model card.

    Raises:
        CheckpointError: the checkpoint or the configuration is absent or damaged, or the files do not fit each other.
        LabelError: the labels cannot be read or decoded, or their number is not the classifier's.
        VocabularyError: the vocabulary cannot be read or lacks a special token.
        PushError: the version cannot be written.
        VersionError: no version number can be given.
    """
    servable, vocabulary = load_servable(model)
    text_tagger = servable.text_tagger
    config = text_tagger.tagger.encoder_config
    scheme = text_tagger.scheme
    assert scheme is not None
    window, overlap = TrainerSettings().window_size(config.max_positions)

    def card(version: int, digest: str) -> bytes:
        return ModelCard(
            name=name,
            version=version,
            created=iso_time(version),
            digest=digest,
            types=scheme.types,
            model={
                "fusion": "dynamic",
                "encoder": dataclasses.asdict(config),
                "precision": model.precision,
                "window": window,
                "window_overlap": overlap,
                "whole_words": scheme.has_continuation_label,
                "annotated_by_whitespace": False,
                "labels": list(scheme.labels),
            },
            tokenizer={
                "vocabulary_size": len(vocabulary),
                "vocabulary_sha256": hashlib.sha256(vocabulary.to_bytes()).hexdigest(),
                "lower_case": model.lower_case,
            },
            training={"converted_from": model.checkpoint.name},
            code=dataclasses.asdict(code_version()),
            libraries=library_versions(),
        ).to_bytes()

    with tempfile.TemporaryDirectory(prefix="convert-") as folder:
        export(servable, folder)
        write_warm_up(folder, warm_up_requests(vocabulary, config.max_positions, ServingWarmUpSettings()))
        return publish(folder, serving_directory, card=card)


def load_servable(model: SeedModel) -> tuple[Servable, Vocabulary]:
    """Builds the servable with the checkpoint's weights; see `convert` for what it raises."""
    config = EncoderConfig.from_google_research(model.bert_config)
    vocabulary = Vocabulary.from_file(model.vocabulary)
    # Nobody watches a conversion train: a vocabulary of another encoder would be seen only by wrong tags.
    check_vocabulary_size(config, len(vocabulary), str(model.vocabulary), exactly=True)
    scheme = read_label_scheme(model.labels, iob1=model.iob1)
    _check_label_count(model, scheme, config)
    tagger = FusionTagger(config, len(scheme.labels), "dynamic")
    load_seed_checkpoint(tagger, model.checkpoint)
    window, overlap = TrainerSettings().window_size(config.max_positions)
    text_tagger = TextTagger(
        tagger.in_precision(model.precision),
        cls_id=vocabulary.cls_id,
        sep_id=vocabulary.sep_id,
        window=window,
        overlap=overlap,
        continuation=continuation_tokens(vocabulary) if scheme.has_continuation_label else None,
        scheme=scheme,
    )
    progress.report(
        f"{len(scheme.labels)} labels, entity types {', '.join(scheme.types)}; windows of {window} tokens; "
        f"{'lower case' if model.lower_case else 'case as written'}"
    )
    return Servable(Tokenizer(vocabulary, lower_case=model.lower_case), text_tagger, scheme.labels), vocabulary


def read_label_scheme(path: pathlib.Path, *, iob1: bool = False) -> LabelScheme:
    """Reads labels, one a line in id order, UTF-8; blank lines at the end are ignored.

    Raises:
        LabelError: the file cannot be read, has an empty line, or its labels cannot be decoded; it names the file.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise LabelError(f"{path}: the labels cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: expected labels in UTF-8; byte {error.start + 1} is not") from error
    labels = [line.strip() for line in lines]
    while labels and not labels[-1]:
        labels.pop()
    if "" in labels:
        raise LabelError(f"{path}:{labels.index('') + 1}: an empty line; expected one label a line, in id order")
    try:
        return label_scheme(labels, iob1=iob1)
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from None


def _check_label_count(model: SeedModel, scheme: LabelScheme, config: EncoderConfig) -> None:
    shape = checkpoint_shapes(model.checkpoint, seed_names(config)).get(_CLASSIFIER)
    if shape is None:
        raise CheckpointError(
            f"{model.checkpoint}: has no tensor {_CLASSIFIER}, so it is no tagger of the seed's code; a pretrained "
            "encoder is trained with fusion-ner run --encoder"
        )
    if shape[0] != len(scheme.labels):
        raise LabelError(
            f"{model.labels}: has {len(scheme.labels)} labels, but {_CLASSIFIER} in {model.checkpoint} has {shape[0]} "
            "rows; list every id in order, also one that the training code kept for padding, as [PAD]"
        )
