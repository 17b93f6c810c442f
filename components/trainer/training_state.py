"""The state of a training on disk: a run after a crash goes on from the last save."""

from __future__ import annotations

import dataclasses
import json
import os

import tensorflow as tf

from components.trainer.optimizer import AdamW
from components.trainer.tagger import FusionTagger


class TrainingStateError(RuntimeError):
    """Raised when a saved state cannot be read; the message names its folder and the remedy."""


@dataclasses.dataclass(frozen=True)
class EpochResult:
    """What one epoch brought.

    Args:
        epoch: which, from 1.
        loss: mean cross-entropy of the training tokens, with dropout.
        precision: strict, on the dev set.
        recall: strict, on the dev set.
        f1: strict micro F1 on the dev set.
        transition_weight: the one that gives this F1, chosen on the dev set or set.
        layer_weights: mean weight of each encoder layer over the dev tokens.
        tokens_per_second: training tokens, special ones included, without evaluation.
        seconds: time of the epoch without evaluation.
    """

    epoch: int
    loss: float
    precision: float
    recall: float
    f1: float
    transition_weight: float
    layer_weights: tuple[float, ...]
    tokens_per_second: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Args:
        epoch: the current epoch, from 0; epochs before it are done.
        batch: batches done within the epoch.
        loss_sum: cross-entropy summed over the tokens of these batches.
        loss_weight: number of these tokens.
        seconds: training time spent on these batches.
        history: the epochs done.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    loss_weight: float = 0.0
    seconds: float = 0.0
    history: tuple[EpochResult, ...] = ()

    @property
    def best(self) -> EpochResult | None:
        """The first epoch with the greatest F1."""
        return max(self.history, key=lambda result: result.f1, default=None)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Progress:
        values = json.loads(text)
        history = tuple(
            EpochResult(**{**result, "layer_weights": tuple(result["layer_weights"])})
            for result in values.pop("history")
        )
        return cls(**values, history=history)


class TrainingState:
    """Saves and restores weights, optimizer and progress of one training, and the weights of its best epoch.

    Weights, optimizer and progress go into one checkpoint, so that they cannot disagree, whenever a run is killed.

    Args:
        directory: a folder of this training alone, of any file system that TensorFlow knows; created when needed.
        tagger: the model.
        optimizer: its optimizer.
    """

    def __init__(self, directory: str, tagger: FusionTagger, optimizer: AdamW) -> None:
        self._directory = directory
        self._progress = tf.Variable("", dtype=tf.string, trainable=False)
        self._weights = tf.train.Checkpoint(tagger=tagger)
        self._state = tf.train.Checkpoint(tagger=tagger, optimizer=optimizer, progress=self._progress)
        self._manager = tf.train.CheckpointManager(self._state, directory, max_to_keep=1, checkpoint_name="state")

    def restore(self) -> Progress:
        """Restores the last save and returns its progress; without one nothing changes and it is at its start.

        Raises:
            TrainingStateError: there is a save and it cannot be read.
        """
        try:
            path = tf.train.latest_checkpoint(self._directory)
            if path is None:
                return Progress()
            self._state.restore(path).assert_consumed()
            return Progress.from_json(self._progress.numpy().decode())
        except (tf.errors.OpError, AssertionError, ValueError, LookupError, TypeError) as error:
            raise TrainingStateError(
                f"{self._directory}: the saved state of an earlier run cannot be read ({_first_line(error)}); "
                "remove the folder to train from the start"
            ) from error

    def save(self, progress: Progress) -> None:
        """Saves everything, replacing the save before."""
        self._progress.assign(progress.to_json())
        self._manager.save(progress.epoch * 10**9 + progress.batch)
        best = progress.best
        if best is not None:
            for path in tf.io.gfile.glob(os.path.join(self._directory, "best-*")):
                if not path.startswith(f"{self._best_path(best.epoch)}."):
                    tf.io.gfile.remove(path)

    def keep_best(self, epoch: int) -> None:
        """Writes the weights as those of `epoch`; call before `save` with the progress that makes it the best."""
        tf.io.gfile.makedirs(self._directory)
        self._weights.write(self._best_path(epoch))

    def restore_best(self, epoch: int) -> None:
        """Sets the weights to those that `keep_best` wrote for `epoch`.

        Raises:
            TrainingStateError: they cannot be read.
        """
        try:
            self._weights.read(self._best_path(epoch)).assert_consumed()
        except (tf.errors.OpError, AssertionError, ValueError, LookupError) as error:
            raise TrainingStateError(
                f"{self._directory}: the weights of epoch {epoch} cannot be read ({_first_line(error)}); "
                "remove the folder to train from the start"
            ) from error

    def remove(self) -> None:
        """Deletes the folder: call it when the model is exported."""
        if tf.io.gfile.exists(self._directory):
            tf.io.gfile.rmtree(self._directory)

    def _best_path(self, epoch: int) -> str:
        return os.path.join(self._directory, f"best-{epoch:04d}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
