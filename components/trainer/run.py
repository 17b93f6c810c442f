"""The Trainer's entry: transformed examples in, SavedModel and learning curves out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import time
from typing import Any

import numpy as np
import tensorflow as tf

from components import progress as console
from components.code_version import code_version, library_versions
from components.settings import parse_settings, settings_to_json
from components.tags import OUTSIDE
from components.trainer.calibration import FittedTemperature, ScoredEntities, fit_temperature
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.checkpoints import load_encoder
from components.trainer.decoding import transition_scores
from components.trainer.distribution import training_strategy
from components.trainer.encoder_config import EncoderConfig
from components.trainer.encoder_digest import encoder_digest
from components.trainer.encoder_directory import check_vocabulary_size, encoder_config_from_directory
from components.trainer.evaluation import best_weight, scorer_of, transition_weights
from components.trainer.pieces import (
    PieceKinds,
    counted_pieces,
    has_whole_words,
    is_annotated_by_whitespace,
    piece_kinds,
)
from components.trainer.servable import Servable, export
from components.trainer.settings import TrainerSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.trainer.training import Corpus, train
from components.trainer.training_data import TokenizedTexts, TrainingDataError, read_texts, training_windows
from components.trainer.warm_start import load_version, newest_version, with_decisions
from components.trainer.warm_up import warm_up_requests, write_warm_up
from components.transform.assets import TransformAssets, read_assets

TRAINING_REPORT = "training.json"


def run_fn(fn_args: Any) -> None:
    """Trains a tagger and exports it: the `run_fn` of TFX's Trainer.

    Args:
        fn_args: TFX's FnArgs, of which are read: `custom_config` (TrainerSettings as JSON), `train_files`,
            `eval_files`, `transform_graph_path`, `serving_model_dir` (for the SavedModel) and `model_run_dir` (for
            TensorBoard's event files and `training.json`).

    Raises:
        SettingsError: the settings are impossible, or do not fit the encoder or the tags.
        TrainingDataError: the examples cannot train a tagger.
        CheckpointError: the encoder cannot be loaded.
        TrainingStateError: the state of an earlier run cannot be read.
        TrainingError: the loss is not a number any more.
        ServingOpsError: TF Serving could not run the model.
    """
    started = time.monotonic()
    settings = _with_digest(parse_settings(TrainerSettings, fn_args.custom_config, "trainer"))
    assets = read_assets(fn_args.transform_graph_path)
    splits = {
        name: read_texts(files, split=name)
        for name, files in (("train", fn_args.train_files), ("dev", fn_args.eval_files))
    }
    for name, texts in splits.items():
        check_texts(texts, assets.tags, split=name)

    served = _served_version(settings)
    settings = dataclasses.replace(settings, warm_start=None if served is None else served.name)
    deciding = settings if served is None else with_decisions(settings, served)
    vocabulary = assets.vocabulary
    kinds = piece_kinds(vocabulary)
    whole_words = has_whole_words(deciding, splits["train"], kinds.continues)
    by_whitespace = is_annotated_by_whitespace(deciding, splits["train"], kinds.continues)
    continuation = kinds.continues if whole_words else None
    transitions = training_transitions(splits["train"], len(assets.tags), continuation)
    strategy = training_strategy(settings.distribution)
    with strategy.scope():
        text_tagger = build_text_tagger(settings, assets, continuation, kinds if by_whitespace else None, transitions)
    if served is not None:
        load_version(text_tagger, served, vocabulary, assets.tags, lower_case=assets.lower_case)
        console.report(f"training starts from version {served.name}")
    window, overlap = settings.window_size(text_tagger.tagger.encoder_config.max_positions)
    windows = training_windows(
        splits["train"],
        cls_id=vocabulary.cls_id,
        sep_id=vocabulary.sep_id,
        window=window,
        overlap=overlap,
        counted=counted_pieces(splits["train"], kinds) if by_whitespace else None,
        tags_count_in_every_window=settings.tags_count_in_every_window,
    )
    console.report(
        f"{sum(int(tf.size(weight)) for weight in text_tagger.tagger.trainable_variables):,} weights; "
        f"{len(windows.lengths):,} windows of at most {window} tokens, {len(windows.token_ids):,} tokens; "
        f"entities {'are whole words' if whole_words else 'may end inside words'}, "
        f"{'annotated' if by_whitespace else 'not annotated'} by whitespace"
    )
    decided = dataclasses.replace(settings, whole_words=whole_words, annotated_by_whitespace=by_whitespace)
    fingerprint = training_fingerprint(decided, assets, splits, replicas=strategy.num_replicas_in_sync)
    state_directory = os.path.join(
        settings.checkpoint_directory or os.path.join(fn_args.model_run_dir, "state"), fingerprint[:16]
    )
    progress, state = train(
        text_tagger,
        Corpus(windows, splits["dev"], assets.tags),
        settings,
        state_directory=state_directory,
        log_directory=fn_args.model_run_dir,
        strategy=strategy,
    )
    text_tagger.tagger = text_tagger.tagger.in_precision(settings.serving_precision)
    calibration = calibrate(text_tagger, settings, assets.tags, splits["dev"])
    # In the precision in which it is exported.
    exported = calibration.after.scores(splits["dev"].entity_count)
    export(Servable(assets.tokenizer(), text_tagger, assets.tags), fn_args.serving_model_dir)
    max_positions = text_tagger.tagger.encoder_config.max_positions
    write_warm_up(fn_args.serving_model_dir, warm_up_requests(vocabulary, max_positions, settings.serving_warm_up))
    best = progress.best
    assert best is not None
    report = {
        "settings": settings_to_json(settings),
        "encoder": dataclasses.asdict(text_tagger.tagger.encoder_config),
        "tags": list(assets.tags),
        "tokenizer": {
            "vocabulary_size": len(vocabulary),
            "vocabulary_sha256": hashlib.sha256(vocabulary.to_bytes()).hexdigest(),
            "lower_case": assets.lower_case,
        },
        "code": dataclasses.asdict(code_version()),
        "libraries": library_versions(),
        "fingerprint": fingerprint,
        "window": window,
        "window_overlap": overlap,
        "whole_words": whole_words,
        "annotated_by_whitespace": by_whitespace,
        "splits": {
            name: {
                "texts": len(texts),
                "tokens": len(texts.token_ids),
                "entities": texts.entity_count,
                "unaligned": texts.unaligned,
            }
            for name, texts in splits.items()
        },
        "transition_weight": text_tagger.transition_weight if text_tagger.has_counted_transitions else None,
        "calibration": calibration.to_json(),
        "best_epoch": best.epoch,
        "exported": dataclasses.asdict(exported),
        "epochs": [dataclasses.asdict(result) for result in progress.history],
        "seconds": time.monotonic() - started,
    }
    tf.io.gfile.makedirs(fn_args.model_run_dir)
    with tf.io.gfile.GFile(os.path.join(fn_args.model_run_dir, TRAINING_REPORT), "w") as file:
        file.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    state.remove()
    console.report(f"exported epoch {best.epoch} in {settings.serving_precision} with F1 {exported.f1:.4f} on dev")


def calibrate(
    text_tagger: TextTagger, settings: TrainerSettings, tags: tuple[str, ...], dev: TokenizedTexts
) -> FittedTemperature:
    """Gives the tagger the transition weight and the temperature that fit the dev set, and reports them.

    Each is left as it is where the settings do not leave it open.
    """
    score_with = scorer_of(text_tagger, tags, dev)
    weights = transition_weights(text_tagger, settings)
    if len(weights) > 1:
        f1 = {weight: score_with(1.0, weight).calibration.scores(dev.entity_count).f1 for weight in weights}
        text_tagger.transition_weight = best_weight(f1)
        console.report("F1 on dev by transition weight: " + ", ".join(f"{key:g}: {f1[key]:.4f}" for key in weights))
    else:
        (text_tagger.transition_weight,) = weights

    def score(temperature: float) -> ScoredEntities:
        return score_with(temperature, text_tagger.transition_weight)

    if settings.calibration == "none":
        calibration = score(1.0).calibration
        return FittedTemperature(1.0, "trainer.calibration is none", calibration, calibration)
    fitted = fit_temperature(score)
    text_tagger.temperature = fitted.temperature
    before, after = (each.expected_calibration_error for each in (fitted.before, fitted.after))
    errors = f"expected calibration error on dev {before:.4f} before, {after:.4f} after"
    console.report(f"temperature {fitted.temperature:.3f}: {fitted.note or errors}")
    return fitted


def check_texts(texts: TokenizedTexts, tags: tuple[str, ...], *, split: str) -> None:
    """Reports a split's size and alignment.

    Raises:
        TrainingDataError: the split has no entity, or nothing that a tagger could learn from.
    """
    console.report(
        f"{split}: {len(texts):,} texts, {len(texts.token_ids):,} tokens, {texts.entity_count:,} entities, "
        f"{texts.unaligned:,} of them not aligned with word pieces"
    )
    purpose = "the tagger learns nothing from it" if split == "train" else "the best epoch is chosen by the F1 on it"
    if not texts.entity_count:
        raise TrainingDataError(f"split {split}: {len(texts)} texts without a single entity; {purpose}")
    if texts.unaligned == texts.entity_count:
        raise TrainingDataError(
            f"split {split}: none of {texts.entity_count} entities can be aligned with word pieces; {purpose}. "
            "Check the offsets of the entities, and that the types occur in the train split"
        )
    if len(texts.tag_ids) != len(texts.token_ids) or not np.all((texts.tag_ids >= 0) & (texts.tag_ids < len(tags))):
        raise TrainingDataError(
            f"split {split}: its tags do not fit the list {', '.join(tags)}; run Transform again on these examples"
        )
    if tags[:1] != (OUTSIDE,):
        raise TrainingDataError(f"the list of tags must begin with {OUTSIDE}; received {', '.join(tags)}")


def build_text_tagger(
    settings: TrainerSettings,
    assets: TransformAssets,
    continuation: np.ndarray | None,
    kinds: PieceKinds | None,
    transitions: np.ndarray,
) -> TextTagger:
    """Returns the tagger with its initial weights: random ones, or those of the encoder's folder.

    Raises:
        CheckpointError: the encoder cannot be loaded, or does not belong to the vocabulary.
        SettingsError: window and encoder do not fit.
    """
    vocabulary = assets.vocabulary
    if settings.encoder is None:
        config = EncoderConfig(vocab_size=len(vocabulary), **dataclasses.asdict(settings.random_encoder))
    else:
        config = encoder_config_from_directory(settings.encoder)
        check_vocabulary_size(config, len(vocabulary), "the vocabulary of Transform")
    if settings.dropout is not None:
        config = dataclasses.replace(config, hidden_dropout=settings.dropout, attention_dropout=settings.dropout)
    window, overlap = settings.window_size(config.max_positions)
    is_crf = settings.decoder == "crf"
    tagger = FusionTagger(
        config,
        len(assets.tags),
        settings.fusion,
        seed=settings.seed,
        compute_dtype=settings.compute_dtype,
        transitions=(1.0 if settings.transition_weight is None else settings.transition_weight) * transitions
        if is_crf
        else None,
    )
    if settings.encoder is not None:
        load_encoder(tagger, settings.encoder)
    return TextTagger(
        tagger,
        cls_id=vocabulary.cls_id,
        sep_id=vocabulary.sep_id,
        window=window,
        overlap=overlap,
        continuation=continuation,
        kinds=kinds,
        transitions=None if is_crf else transitions,
    )


def _served_version(settings: TrainerSettings) -> pathlib.Path | None:
    """Returns the version that training starts from; None if it starts from the encoder."""
    if settings.warm_start is None:
        return None
    version = newest_version(settings.warm_start)
    if version is None:
        console.report(f"no version in {settings.warm_start} yet: training starts from the encoder")
    return version


def training_transitions(texts: TokenizedTexts, tag_count: int, continuation: np.ndarray | None) -> np.ndarray:
    """Returns the scores of tag sequences, float32 [K+1, K+1], of whole words or of pieces, as decoded."""
    if continuation is None:
        return transition_scores(texts.tag_ids, texts.row_splits, tag_count)
    begins_word = ~continuation[texts.token_ids]
    words_before = np.concatenate([[0], np.cumsum(begins_word)])
    return transition_scores(texts.tag_ids[begins_word], words_before[texts.row_splits], tag_count)


def training_fingerprint(
    settings: TrainerSettings, assets: TransformAssets, splits: dict[str, TokenizedTexts], *, replicas: int
) -> str:
    """Returns a hash of all that determines the result: a saved state is resumed only under the same."""
    values = settings_to_json(settings)
    for name in ("checkpoint_directory", "checkpoint_minutes", "serving_warm_up", "serving_precision"):
        del values[name]
    values["replicas"] = replicas
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    digest.update(assets.vocabulary.to_bytes())
    digest.update("\n".join(assets.tags).encode())
    for name in sorted(splits):
        digest.update(splits[name].fingerprint().encode())
    return digest.hexdigest()


def _with_digest(settings: TrainerSettings) -> TrainerSettings:
    """Returns the settings with the digest of the encoder as it is now.

    Raises:
        CheckpointError: it has changed since the pipeline was built.
    """
    if settings.encoder is None or not os.path.isdir(settings.encoder):
        return settings
    digest = encoder_digest(settings.encoder)
    if settings.encoder_digest not in (None, digest):
        raise CheckpointError(f"{settings.encoder}: the folder has changed since the pipeline was built; run it again")
    return dataclasses.replace(settings, encoder_digest=digest)
