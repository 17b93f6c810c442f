"""The training loop: steps, evaluation after each epoch, best weights, resuming."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from components import progress as console
from components.trainer.distribution import replica_batch
from components.trainer.dropout import dropout_scope
from components.trainer.evaluation import evaluator_of, transition_weights
from components.trainer.loss import pad_rows, token_loss
from components.trainer.loss_scale import SMALLEST, LossScale
from components.trainer.optimizer import AdamW, Schedule
from components.trainer.settings import TrainerSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.trainer.trained_weights import trained_weights
from components.trainer.training_data import TokenizedTexts, TrainingBatch, TrainingWindows, epoch_batches
from components.trainer.training_state import EpochResult, Progress, TrainingState

SECONDS_BETWEEN_REPORTS = 20.0
STEPS_BETWEEN_SCALARS = 10

# The batches of a step; returns the sum of their losses, the sum of the weights and the norm of the mean's gradient.
TrainStep = Callable[[Sequence[TrainingBatch]], tuple[float, float, float]]
# Logits and the arguments of a batch; returns the sum of the losses, float32 [], and the sum of their weights.
Loss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


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
    strategy: tf.distribute.Strategy | None = None,
) -> tuple[Progress, TrainingState]:
    """Trains the tagger and leaves it with the weights of the epoch that has the best F1 on the dev set.

    Order of the data, dropout and so the result depend on the settings, the data and the numbers of cores and replicas
    only. After a crash the same call goes on from the last save in `state_directory` and comes to the same result.

    Args:
        text_tagger: the model, with its initial weights.
        corpus: training and dev texts.
        settings: how to train.
        state_directory: a folder for the state of this very training, which is left behind: call `remove` on the
            returned state once the model is safe.
        log_directory: for TensorBoard.
        strategy: in whose scope the model was made; None for one device.

    Raises:
        SettingsError: the settings do not fit the encoder or the tags.
        TrainingError: the loss is not a number any more.
        TrainingStateError: the state of an earlier run cannot be read.
    """
    tagger = text_tagger.tagger
    padded_length = settings.window_size(tagger.encoder_config.max_positions)[0] if settings.loss == "seed" else None
    plans = [_plan(corpus.windows, settings, epoch, padded_length) for epoch in range(settings.epochs)]
    loss = single_token_loss if tagger.transitions is None else text_tagger.sequence_loss
    strategy = strategy or tf.distribute.get_strategy()
    group = settings.recipe.gradient_accumulation_steps * strategy.num_replicas_in_sync
    with strategy.scope():
        optimizer = _optimizer(tagger, settings, total_steps=sum(math.ceil(len(plan) / group) for plan in plans))
        step = train_step(
            tagger,
            optimizer,
            loss,
            seed=settings.seed,
            padded_length=padded_length,
            accumulation_steps=settings.recipe.gradient_accumulation_steps,
            strategy=strategy,
        )
    evaluate = evaluator_of(text_tagger, corpus.tags, transition_weights(text_tagger, settings))
    state = TrainingState(state_directory, tagger, optimizer)
    progress = state.restore()
    curves = LearningCurves(log_directory, settings)
    for result in progress.history:
        curves.epoch(result, math.ceil(len(plans[0]) / group) * result.epoch)
    if progress != Progress():
        console.report(f"resuming after {progress.epoch} epochs and {progress.batch} batches, from {state_directory}")

    while progress.epoch < settings.epochs and not _is_stale(progress.history, settings.early_stopping_epochs):
        progress = _train_epoch(
            progress, plans[progress.epoch], group, corpus.windows, settings, step, optimizer, state, curves
        )
        with optimizer.averaged():
            evaluation = evaluate(corpus.dev)
            scores = evaluation.report.micro.scores()
            tokens = int(corpus.windows.row_splits[-1])
            result = EpochResult(
                epoch=progress.epoch + 1,
                loss=progress.loss_sum / (progress.loss_weight or 1.0),
                precision=scores.precision,
                recall=scores.recall,
                f1=scores.f1,
                transition_weight=evaluation.transition_weight,
                layer_weights=tuple(evaluation.layer_weights.tolist()),
                tokens_per_second=tokens / max(progress.seconds, 1e-9),
                seconds=progress.seconds,
            )
            progress = Progress(epoch=progress.epoch + 1, history=(*progress.history, result))
            if progress.best == result:
                state.keep_best(result.epoch)
        state.save(progress)
        curves.epoch(result, optimizer.steps_done)
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
    loss: Loss | None = None,
    *,
    seed: int,
    padded_length: int | None = None,
    accumulation_steps: int = 1,
    strategy: tf.distribute.Strategy | None = None,
) -> TrainStep:
    """Returns the function of one training step, which takes 1 to `accumulation_steps` x replicas batches.

    Their number changes nothing but memory and rounding: the gradient is that of the mean over the tokens of them all,
    not the mean of their means.

    Args:
        tagger: the model.
        optimizer: of those of its weights that are trained; no gradient is computed below them.
        loss: of a batch; None takes the cross-entropy of single tokens.
        seed: of dropout.
        padded_length: the length to which rows are padded for the seed's loss; None pads nothing.
        accumulation_steps: the most batches that one replica takes one after another.
        strategy: in whose scope model and optimizer were made; None for one device.
    """
    loss = loss or single_token_loss
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    variables = optimizer.trained
    # Loss, weight and gradients of the batches before the last one. Each replica has its own.
    accumulators = [
        tf.Variable(
            tf.zeros(shape),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
        for shape in ([], [], *(variable.shape for variable in variables))
        if accumulation_steps > 1
    ]

    def sums(
        token_ids: tf.Tensor, row_lengths: tf.Tensor, tag_ids: tf.Tensor, row_counts: tf.Tensor, index: tf.Tensor
    ) -> list[tf.Tensor]:
        """Returns loss, weight and gradients, summed over the tokens of this replica's batch."""
        token_ids, row_lengths, tag_ids = replica_batch(token_ids, row_lengths, tag_ids, row_counts)
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        batch = (optimizer.step * accumulation_steps + index) * replicas + replica
        with tf.GradientTape(watch_accessed_variables=False) as tape, dropout_scope(seed, batch):
            tape.watch(variables)
            attended_lengths = None
            if padded_length is not None:
                token_ids, row_lengths, attended_lengths, tag_ids = pad_rows(
                    token_ids, row_lengths, tag_ids, length=padded_length
                )
            logits = tagger(token_ids, row_lengths, attended_lengths=attended_lengths, training=True).logits
            loss_sum, weight = loss(logits, token_ids, row_lengths, tag_ids)
            scaled = loss_sum if optimizer.loss_scale is None else loss_sum * optimizer.loss_scale.factor()
        return [loss_sum, weight, *map(tf.convert_to_tensor, tape.gradient(scaled, variables))]

    def accumulate(*batch: tf.Tensor) -> None:
        for accumulator, value in zip(accumulators, sums(*batch), strict=True):
            tf.raw_ops.AssignAddVariableOp(resource=accumulator.handle, value=value)

    def finish(*batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        totals = sums(*batch)
        if accumulators:
            totals = [total + accumulator for total, accumulator in zip(totals, accumulators, strict=True)]
        if replicas > 1:
            totals = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, totals)
        loss_sum, weight, *gradients = totals
        # A batch may consist of empty texts.
        norm = optimizer.apply(gradients, tf.where(weight > 0.0, weight, 1.0))
        for accumulator in accumulators:
            tf.raw_ops.AssignVariableOp(resource=accumulator.handle, value=tf.zeros(accumulator.shape))
        return loss_sum, weight, norm

    def on_all_replicas(function: Callable) -> Callable:
        @tf.function(
            input_signature=[
                *[tf.TensorSpec([None], tf.int32)] * 3, tf.TensorSpec([replicas], tf.int32), tf.TensorSpec([], tf.int64)
            ],
            autograph=False,
        )  # fmt: skip
        def run(*batch: tf.Tensor) -> object:
            return tf.nest.map_structure(
                lambda value: strategy.experimental_local_results(value)[0], strategy.run(function, args=batch)
            )

        # Traced now, so that it counts for no epoch's speed.
        run.get_concrete_function()
        return run

    accumulate_in_graph = on_all_replicas(accumulate) if accumulators else None
    finish_in_graph = on_all_replicas(finish)

    def step(batches: Sequence[TrainingBatch]) -> tuple[float, float, float]:
        shares = [batches[first : first + replicas] for first in range(0, len(batches), replicas)]
        for index, share in enumerate(shares):
            row_counts = [len(batch.row_lengths) for batch in share] + [0] * (replicas - len(share))
            arguments = (
                *(
                    tf.constant(np.concatenate([getattr(batch, name) for batch in share]))
                    for name in ("token_ids", "row_lengths", "tag_ids")
                ),
                tf.constant(row_counts, tf.int32),
                tf.constant(index, tf.int64),
            )
            if index < len(shares) - 1:
                assert accumulate_in_graph is not None
                accumulate_in_graph(*arguments)
        loss_sum, weight, norm = finish_in_graph(*arguments)
        return float(loss_sum), float(weight), float(norm)

    return step


def single_token_loss(
    logits: tf.Tensor, token_ids: tf.Tensor, row_lengths: tf.Tensor, tag_ids: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the loss of a batch, each token by itself, and its weight; see `token_loss`."""
    return token_loss(logits, tag_ids)


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
    weights = trained_weights(tagger, settings)
    return AdamW(
        [weight.variable for weight in weights],
        peaks=[weight.peak for weight in weights],
        decayed=[weight.decayed for weight in weights],
        schedule=Schedule(total_steps=total_steps, warmup_steps=round(settings.warmup_fraction * total_steps)),
        weight_decay=settings.weight_decay,
        clip_norm=settings.gradient_clip_norm,
        ema_decay=settings.recipe.ema_decay,
        loss_scale=LossScale(settings.batch_tokens) if settings.precision == "mixed_float16" else None,
    )


def _train_epoch(
    progress: Progress,
    plan: Sequence,
    group: int,
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
        batches = [windows.batch(rows) for rows in plan[progress.batch : progress.batch + group]]
        rate = float(optimizer.rate())
        loss_sum, weight, norm = step(batches)
        if math.isfinite(loss_sum) and _overflowed(norm, optimizer):
            loss_sum = weight = 0.0
        elif not (math.isfinite(norm) and math.isfinite(loss_sum)):
            raise TrainingError(
                f"epoch {progress.epoch + 1}, batch {progress.batch + 1}: the loss is {loss_sum} and the norm of its "
                f"gradient {norm}; lower learning_rate (now {settings.peak_learning_rate:g})"
                f"{'' if optimizer.loss_scale is None else ' or train in mixed_bfloat16'}"
            )
        now = time.monotonic()
        progress = dataclasses.replace(
            progress,
            batch=progress.batch + len(batches),
            loss_sum=progress.loss_sum + loss_sum,
            loss_weight=progress.loss_weight + weight,
            seconds=progress.seconds + now - started,
        )
        if optimizer.steps_done % STEPS_BETWEEN_SCALARS == 1 and math.isfinite(norm):
            curves.step(
                optimizer.steps_done,
                loss=loss_sum / (weight or 1.0),
                rate=rate,
                norm=norm,
                tokens_per_second=sum(len(batch.token_ids) for batch in batches) / (now - started),
            )
        if now - last_report > SECONDS_BETWEEN_REPORTS:
            last_report = now
            console.report(
                f"epoch {progress.epoch + 1}/{settings.epochs}: {100 * progress.batch // len(plan)} %, "
                f"loss {progress.loss_sum / (progress.loss_weight or 1.0):.4f}"
            )
        if now - last_save > 60 * settings.checkpoint_minutes:
            state.save(progress)
            last_save = time.monotonic()
    return progress


def _overflowed(norm: float, optimizer: AdamW) -> bool:
    """Whether a step was skipped because its gradient left float16, which a smaller scale may mend."""
    scale = optimizer.loss_scale
    return scale is not None and not math.isfinite(norm) and float(scale.value.read_value()) >= SMALLEST


def _is_stale(history: Sequence[EpochResult], patience: int | None) -> bool:
    """Whether the best epoch lies `patience` epochs back."""
    if patience is None or not history:
        return False
    best = max(history, key=lambda result: result.f1)
    return history[-1].epoch - best.epoch >= patience
