"""The training loop: steps, evaluation after each epoch, best weights, resuming."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from components import progress as console
from components.trainer.dropout import dropout_scope
from components.trainer.evaluation import evaluator_of
from components.trainer.loss import pad_rows, token_loss
from components.trainer.optimizer import AdamW, Schedule
from components.trainer.settings import TrainerSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.trainer.training_data import TokenizedTexts, TrainingBatch, TrainingWindows, epoch_batches
from components.trainer.training_state import EpochResult, Progress, TrainingState

SECONDS_BETWEEN_REPORTS = 20.0
STEPS_BETWEEN_SCALARS = 10

TrainStep = Callable[[TrainingBatch], tuple[float, int, float]]
# Logits and the arguments of a step; returns the sum of the losses and the number of tokens.
SequenceLoss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class TrainingError(RuntimeError):
    """Raised when training cannot go on; the message says at which step and what to change."""


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What a tagger learns from.

    Args:
        windows: the training texts, cut into windows.
        dev: the texts that choose the best epoch.
        tags: the model's tags in id order.
    """

    windows: TrainingWindows
    dev: TokenizedTexts
    tags: tuple[str, ...]


def train(
    text_tagger: TextTagger,
    corpus: Corpus,
    settings: TrainerSettings,
    *,
    state_directory: str,
    log_directory: str,
) -> tuple[Progress, TrainingState]:
    """Trains the tagger and leaves it with the weights of the epoch that has the best F1 on the dev set.

    Order of the data, dropout and so the result depend on the settings, the data and the number of cores only. After a
    crash the same call goes on from the last save in `state_directory` and comes to the same result.

    Args:
        text_tagger: the model, with its initial weights.
        corpus: training and dev texts.
        settings: how to train.
        state_directory: a folder for the state of this very training, which is left behind: call `remove` on the
            returned state once the model is safe.
        log_directory: for TensorBoard.

    Raises:
        TrainingError: the loss is not a number any more.
        TrainingStateError: the state of an earlier run cannot be read.
    """
    tagger = text_tagger.tagger
    padded_length = settings.window_size(tagger.encoder_config.max_positions)[0] if settings.loss == "seed" else None
    plans = [_plan(corpus.windows, settings, epoch, padded_length) for epoch in range(settings.epochs)]
    optimizer = _optimizer(tagger, settings, total_steps=sum(map(len, plans)))
    sequence_loss = None if tagger.transitions is None else text_tagger.sequence_loss
    step = train_step(tagger, optimizer, sequence_loss, seed=settings.seed, padded_length=padded_length)
    evaluate = evaluator_of(text_tagger, corpus.tags)
    state = TrainingState(state_directory, tagger, optimizer)
    progress = state.restore()
    curves = LearningCurves(log_directory, settings)
    for result in progress.history:
        curves.epoch(result, len(plans[0]))
    if progress != Progress():
        console.report(f"resuming after {progress.epoch} epochs and {progress.batch} batches, from {state_directory}")

    while progress.epoch < settings.epochs and not _is_stale(progress.history, settings.early_stopping_epochs):
        progress = _train_epoch(
            progress, plans[progress.epoch], corpus.windows, settings, step, optimizer, state, curves
        )
        report, layer_weights = evaluate(corpus.dev)
        scores = report.micro.scores()
        tokens = int(corpus.windows.row_splits[-1])
        result = EpochResult(
            epoch=progress.epoch + 1,
            loss=progress.loss_sum / max(progress.loss_tokens, 1),
            precision=scores.precision,
            recall=scores.recall,
            f1=scores.f1,
            layer_weights=tuple(layer_weights.tolist()),
            tokens_per_second=tokens / max(progress.seconds, 1e-9),
            seconds=progress.seconds,
        )
        progress = Progress(epoch=progress.epoch + 1, history=(*progress.history, result))
        if progress.best == result:
            state.keep_best(result.epoch)
        state.save(progress)
        curves.epoch(result, sum(map(len, plans[: result.epoch])))
        console.report(
            f"epoch {result.epoch}/{settings.epochs}: loss {result.loss:.4f}, dev precision {result.precision:.4f} "
            f"recall {result.recall:.4f} F1 {result.f1:.4f}{' (best)' if progress.best == result else ''}, "
            f"{result.tokens_per_second:,.0f} tokens/s, {result.seconds:.1f} s"
        )
    best = progress.best
    assert best is not None  # epochs > 0
    state.restore_best(best.epoch)
    curves.close()
    return progress, state


def train_step(
    tagger: FusionTagger,
    optimizer: AdamW,
    sequence_loss: SequenceLoss | None = None,
    *,
    seed: int,
    padded_length: int | None = None,
) -> TrainStep:
    """Returns the function of one training step: it takes a batch and returns loss sum, positions and gradient norm.

    Args:
        tagger: the model.
        optimizer: of its weights.
        sequence_loss: of whole tag sequences; None takes the cross-entropy of single tokens.
        seed: of dropout.
        padded_length: the length to which rows are padded for the seed's loss; None pads nothing.
    """
    variables = list(tagger.trainable_variables)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)] * 3, autograph=False)
    def step(token_ids: tf.Tensor, row_lengths: tf.Tensor, tag_ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape, dropout_scope(seed, optimizer.step):
            attended_lengths = None
            if padded_length is not None:
                token_ids, row_lengths, attended_lengths, tag_ids = pad_rows(
                    token_ids, row_lengths, tag_ids, length=padded_length
                )
            logits = tagger(token_ids, row_lengths, attended_lengths=attended_lengths, training=True).logits
            if sequence_loss is None:
                loss_sum, tokens = token_loss(logits, tag_ids)
            else:
                loss_sum, tokens = sequence_loss(logits, token_ids, row_lengths, tag_ids)
            loss = loss_sum / tf.cast(tf.maximum(tokens, 1), tf.float32)
        norm = optimizer.apply(tape.gradient(loss, variables))
        return loss_sum, tokens, norm

    # Traced now, so that it counts for no epoch's speed.
    step.get_concrete_function()

    def run(batch: TrainingBatch) -> tuple[float, int, float]:
        loss_sum, tokens, norm = step(*map(tf.constant, (batch.token_ids, batch.row_lengths, batch.tag_ids)))
        return float(loss_sum), int(tokens), float(norm)

    return run


class LearningCurves:
    """Scalars for TensorBoard.

    Args:
        directory: where the event files go.
        settings: for the learning rate.
    """

    def __init__(self, directory: str, settings: TrainerSettings) -> None:
        self._writer = tf.summary.create_file_writer(directory)
        self._peak = settings.peak_learning_rate

    def step(self, step: int, *, loss: float, rate: float, norm: float, tokens_per_second: float) -> None:
        """Writes the scalars of one training step."""
        with self._writer.as_default(step):
            tf.summary.scalar("train/loss", loss)
            tf.summary.scalar("train/learning_rate", rate * self._peak)
            tf.summary.scalar("train/gradient_norm", norm)
            tf.summary.scalar("train/tokens_per_second", tokens_per_second)

    def epoch(self, result: EpochResult, step: int) -> None:
        """Writes the scalars of one epoch at its last step."""
        with self._writer.as_default(step):
            tf.summary.scalar("epoch/loss", result.loss)
            for name in ("precision", "recall", "f1"):
                tf.summary.scalar(f"dev/{name}", getattr(result, name))
            for layer, weight in enumerate(result.layer_weights, start=1):
                tf.summary.scalar(f"layer_weights/{layer:02d}", weight)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _plan(windows: TrainingWindows, settings: TrainerSettings, epoch: int, padded_length: int | None) -> list:
    # A padded batch holds as many tokens as it has positions.
    lengths = windows.lengths if padded_length is None else np.full_like(windows.lengths, padded_length)
    return epoch_batches(lengths, batch_tokens=settings.batch_tokens, seed=settings.seed, epoch=epoch)


def _optimizer(tagger: FusionTagger, settings: TrainerSettings, *, total_steps: int) -> AdamW:
    variables = list(tagger.trainable_variables)
    encoder = {id(variable) for variable in tagger.encoder.trainable_variables}
    return AdamW(
        variables,
        peaks=[
            settings.peak_learning_rate if id(variable) in encoder else settings.peak_head_learning_rate
            for variable in variables
        ],
        # Biases and the parameters of layer normalisation are the vectors of the model.
        decayed=[variable.shape.rank > 1 for variable in variables],
        schedule=Schedule(total_steps=total_steps, warmup_steps=round(settings.warmup_fraction * total_steps)),
        weight_decay=settings.weight_decay,
        clip_norm=settings.gradient_clip_norm,
    )


def _train_epoch(
    progress: Progress,
    plan: Sequence,
    windows: TrainingWindows,
    settings: TrainerSettings,
    step: TrainStep,
    optimizer: AdamW,
    state: TrainingState,
    curves: LearningCurves,
) -> Progress:
    """Trains the rest of the current epoch and returns its progress, with all batches done."""
    last_report = last_save = time.monotonic()
    while progress.batch < len(plan):
        started = time.monotonic()
        batch = windows.batch(plan[progress.batch])
        rate = float(optimizer.rate())
        loss_sum, tokens, norm = step(batch)
        if not (math.isfinite(norm) and math.isfinite(loss_sum)):
            raise TrainingError(
                f"epoch {progress.epoch + 1}, batch {progress.batch + 1}: the loss is {loss_sum} and the norm of its "
                f"gradient {norm}; lower learning_rate (now {settings.peak_learning_rate:g})"
            )
        now = time.monotonic()
        progress = dataclasses.replace(
            progress,
            batch=progress.batch + 1,
            loss_sum=progress.loss_sum + loss_sum,
            loss_tokens=progress.loss_tokens + tokens,
            seconds=progress.seconds + now - started,
        )
        if progress.batch % STEPS_BETWEEN_SCALARS == 1:
            curves.step(
                int(optimizer.step),
                loss=loss_sum / max(tokens, 1),
                rate=rate,
                norm=norm,
                tokens_per_second=len(batch.token_ids) / (now - started),
            )
        if now - last_report > SECONDS_BETWEEN_REPORTS:
            last_report = now
            console.report(
                f"epoch {progress.epoch + 1}/{settings.epochs}: {100 * progress.batch // len(plan)} %, "
                f"loss {progress.loss_sum / max(progress.loss_tokens, 1):.4f}"
            )
        if now - last_save > 60 * settings.checkpoint_minutes:
            state.save(progress)
            last_save = time.monotonic()
    return progress


def _is_stale(history: Sequence[EpochResult], patience: int | None) -> bool:
    """Whether the best epoch lies `patience` epochs back."""
    if patience is None or not history:
        return False
    best = max(history, key=lambda result: result.f1)
    return history[-1].epoch - best.epoch >= patience
