"""The Trainer component of the pipeline."""

from __future__ import annotations

import dataclasses
import os

from tfx.components.trainer.component import Trainer
from tfx.proto import trainer_pb2
from tfx.types import BaseChannel

from components.settings import settings_to_json
from components.trainer.encoder_digest import encoder_digest
from components.trainer.settings import TrainerSettings

# An import path, so that every worker finds the function in the installed package.
RUN_FN = "components.trainer.run.run_fn"


def create_trainer(
    *,
    examples: BaseChannel,
    transform_graph: BaseChannel,
    settings: TrainerSettings,
    train_split: str = "train",
    dev_split: str = "dev",
) -> Trainer:
    """Returns the component that trains the tagger on transformed `examples` and exports it."""
    if settings.encoder is not None and os.path.isdir(settings.encoder):
        settings = dataclasses.replace(settings, encoder_digest=encoder_digest(settings.encoder))
    return Trainer(
        run_fn=RUN_FN,
        examples=examples,
        transform_graph=transform_graph,
        train_args=trainer_pb2.TrainArgs(splits=[train_split]),
        eval_args=trainer_pb2.EvalArgs(splits=[dev_split]),
        custom_config=settings_to_json(settings),
    )
