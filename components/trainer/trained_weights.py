"""Which weights are trained, and how fast."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from components.settings import check
from components.trainer.settings import TrainerSettings
from components.trainer.tagger import FusionTagger


class TrainedWeight(NamedTuple):
    """A weight that is trained.

    Args:
        variable: the weight.
        peak: its peak learning rate.
        decayed: whether weight decay applies.
    """

    variable: tf.Variable
    peak: float
    decayed: bool


def trained_weights(tagger: FusionTagger, settings: TrainerSettings) -> list[TrainedWeight]:
    """Returns the weights of `tagger` that `settings` leave trainable, each with its learning rate.

    Raises:
        SettingsError: more layers are frozen than the encoder has.
    """
    recipe = settings.recipe
    frozen = -1 if recipe.frozen_layers is None else recipe.frozen_layers
    layers = tagger.encoder.layers
    check(frozen <= len(layers), "trainer.recipe.frozen_layers", f"at most {len(layers)}, the encoder's layers", frozen)
    # The embeddings stand below the first layer.
    parts: list[tf.Module] = [tagger.encoder.embeddings, *layers]
    depths = {id(variable): depth for depth, part in enumerate(parts) for variable in part.trainable_variables}
    trained = []
    for variable in tagger.trainable_variables:
        depth = depths.get(id(variable))
        if depth is None:
            peak = settings.peak_head_learning_rate
        elif depth <= frozen:
            continue
        else:
            peak = settings.peak_learning_rate * recipe.layerwise_learning_rate_decay ** (len(layers) - depth)
        # Biases and the parameters of layer normalisation are the vectors of the model; the transitions of a
        # conditional random field are scores like biases.
        decayed = variable.shape.rank > 1 and variable is not tagger.transitions
        trained.append(TrainedWeight(variable, peak, decayed))
    return trained
