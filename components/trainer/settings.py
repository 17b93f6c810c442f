"""Settings of the Trainer."""

from __future__ import annotations

import dataclasses
from typing import Literal

from components.settings import check

RANDOM_LEARNING_RATE = 5e-4
PRETRAINED_LEARNING_RATE = 5e-5


@dataclasses.dataclass(frozen=True)
class RandomEncoderSettings:
    """The shape of an encoder that starts from random weights; the vocabulary gives its last dimension.

    Args:
        hidden_size: width of the layers, a multiple of `num_heads`.
        num_layers: number of encoder layers, all of which are fused.
        num_heads: attention heads of a layer.
        intermediate_size: width of the feed-forward part.
        max_positions: tokens a window may have, [CLS] and [SEP] included.

    Raises:
        SettingsError: a value is impossible.
    """

    hidden_size: int = 256
    num_layers: int = 4
    num_heads: int = 4
    intermediate_size: int = 1024
    max_positions: int = 512

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "num_heads", "intermediate_size"):
            check(getattr(self, name) > 0, f"random_encoder.{name}", "a positive number", getattr(self, name))
        check(
            self.hidden_size % self.num_heads == 0,
            "random_encoder.hidden_size",
            f"a multiple of num_heads ({self.num_heads})",
            self.hidden_size,
        )
        check(self.max_positions >= 4, "random_encoder.max_positions", "at least 4", self.max_positions)


@dataclasses.dataclass(frozen=True)
class ServingWarmUpSettings:
    """The requests that travel with the model: a model server answers them before a version goes live.

    `serving_default` gets one request for each length and batch size; `tokens`, `examples` and `explain` get a few.
    Each swap of versions waits for all of them.

    Args:
        lengths: word pieces of a text.
        batch_sizes: texts of a request; the largest one that the batching of the server allows should be here.
        most_tokens: the word pieces of a request; combinations with more are left out, but for the very smallest.

    Raises:
        SettingsError: a value is impossible, or there would be more requests than TF Serving takes.
    """

    lengths: tuple[int, ...] = (8, 32, 128, 512)
    batch_sizes: tuple[int, ...] = (1, 8, 64)
    most_tokens: int = 2048

    def __post_init__(self) -> None:
        for name in ("lengths", "batch_sizes"):
            values = getattr(self, name)
            check(bool(values) and all(value > 0 for value in values), name, "positive numbers", values)
        # TF Serving refuses a version with more than 1000 of them.
        count = len(self.lengths) * len(self.batch_sizes)
        check(count <= 900, "lengths", f"at most {900 // len(self.batch_sizes)} for these batch_sizes", count)
        check(self.most_tokens > 0, "most_tokens", "a positive number", self.most_tokens)


@dataclasses.dataclass(frozen=True)
class RecipeSettings:
    """Refinements of the training; each is off by default.

    Args:
        layerwise_learning_rate_decay: factor on the learning rate for each encoder layer below the top one; the
            embeddings get one factor more than the lowest layer, fusion and classifier none. 1 is off.
        frozen_layers: how many of the lowest encoder layers keep their weights, the embeddings too; 0 freezes the
            embeddings only, null nothing.
        gradient_accumulation_steps: batches whose gradients make one step: the same as batches of so many times
            `batch_tokens`, in the memory of one.
        ema_decay: decay of an exponential moving average of the weights, which is then what is scored on the dev set
            and exported; 0 is off. At step t the decay is at most (1 + t) / (10 + t).

    Raises:
        SettingsError: a value is impossible.
    """

    layerwise_learning_rate_decay: float = 1.0
    frozen_layers: int | None = None
    gradient_accumulation_steps: int = 1
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        decay = self.layerwise_learning_rate_decay
        check(0 < decay <= 1, "recipe.layerwise_learning_rate_decay", "a number above 0 and at most 1", decay)
        frozen = self.frozen_layers
        check(frozen is None or frozen >= 0, "recipe.frozen_layers", "0 or more layers, or null", frozen)
        steps = self.gradient_accumulation_steps
        check(steps > 0, "recipe.gradient_accumulation_steps", "a positive number", steps)
        check(0 <= self.ema_decay < 1, "recipe.ema_decay", "at least 0 and below 1", self.ema_decay)


@dataclasses.dataclass(frozen=True)
class TrainerSettings:
    """How the tagger is trained.

    Args:
        encoder: folder of a pretrained encoder (Hugging Face layout, with safetensors or `pytorch_model.bin`, or
            google-research checkpoint); None starts from random weights of the shape `random_encoder`.
        random_encoder: the shape of an encoder without pretrained weights.
        warm_start: serving folder whose newest version gives the initial weights, of the head too; as long as it has no
            version, or for None, training starts from the encoder. Vocabulary, entity types, encoder, fusion and
            decoder must be that version's.
        fusion: how the encoder's layers are combined: "dynamic" weighs them anew for every token, "static" once for
            the model, "last" takes the last layer only.
        loss: "masked" is the mean over the tokens of the texts. "seed" is the mean over all positions of a batch padded
            to the window, padding, [CLS] and [SEP] with the tag O, tokens in several windows counted in each: for
            reproduction, and slow.
        decoder: "softmax" trains the tag of each token by itself and decodes with the counted transitions; "crf" is a
            conditional random field, which trains the likelihood of the whole tag sequence and its transitions.
        calibration: "temperature" fits one number on the dev set by which the scores of entities become probabilities
            of their being right; it changes no entity. "none" leaves scores as the model has them.
        epochs: passes over the training texts.
        learning_rate: peak of the schedule; None takes 5e-4 for random weights and 5e-5 for pretrained ones and
            for those of a served version.
        head_learning_rate: peak for the fusion and the classifier; None takes `learning_rate` for random weights and
            for those of a served version, which has a trained head, and ten times `learning_rate` for a pretrained
            encoder, whose head starts from nothing.
        warmup_fraction: share of all steps in which the rate rises from 0; then it falls linearly to 0.
        weight_decay: decoupled decay of weights, not of biases and layer normalisation.
        gradient_clip_norm: the global norm to which gradients are clipped.
        recipe: refinements of the training, all off by default.
        distribution: "mirrored" trains on all GPUs of the machine, each with batches of its own, so that a step takes
            as many times `batch_tokens`; "none" on one device.
        precision: of training. The mixed ones keep float32 weights and compute products, forward and backward, in the
            lower type: for GPUs and processors that have units for it. float16 scales the loss dynamically.
        serving_precision: in which the exported model stores its matrices and computes their products; the lower ones
            halve its size on disk and in the server.
        batch_tokens: tokens of a training batch, special ones included; a batch holds as many windows as fit.
        dropout: rate of all dropouts; None takes the encoder's own (0.1 for random weights).
        seed: of initial weights, order of the data and dropout.
        window: tokens of a window, special ones included; None takes the encoder's positions, at most 512.
        window_overlap: tokens that neighbouring windows share; None takes a quarter of the window.
        whole_words: whether word pieces of one word (those that begin with ##) always get one entity; None decides
            by the training entities: yes, if at most one in a hundred begins or ends inside a word.
        annotated_by_whitespace: whether annotators marked what whitespace separates, as in CoNLL files of European
            languages. Of what is no entity then only words after whitespace count in the loss, and no entity begins
            behind a letter or digit without whitespace or an ideograph between them. None decides by the training
            texts: yes, if the loss is of single pieces and at most one end of an entity in a hundred lies where no
            whitespace is.
        transition_weight: how much the frequencies of tag sequences in the training texts count when entities are
            decoded, relative to the classifier; 0 decodes by the classifier alone, within legal sequences. None takes
            what gives the best F1 on the dev set. The transitions of "crf" start from the frequencies, times this; None
            is 1 there.
        early_stopping_epochs: stop after so many epochs without a better F1 on the dev set; None never stops early.
        checkpoint_directory: where the state is kept until training succeeds, so that a run after a crash resumes;
            None keeps it beside the model, where a new run of the pipeline does not find it.
        checkpoint_minutes: minutes between two saves within an epoch; each epoch's end is saved in any case.
        serving_warm_up: the requests with which a server warms the model up.
        encoder_digest: SHA-256 of the encoder's folder, which `create_trainer` fills in: it makes the step run again
            when the encoder changes, and refuses one that changed since.

    Raises:
        SettingsError: a value is impossible.
    """

    encoder: str | None = None
    random_encoder: RandomEncoderSettings = dataclasses.field(default_factory=RandomEncoderSettings)
    warm_start: str | None = None
    fusion: Literal["dynamic", "static", "last"] = "dynamic"
    loss: Literal["masked", "seed"] = "masked"
    decoder: Literal["softmax", "crf"] = "softmax"
    calibration: Literal["temperature", "none"] = "temperature"
    epochs: int = 10
    learning_rate: float | None = None
    head_learning_rate: float | None = None
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    gradient_clip_norm: float = 1.0
    recipe: RecipeSettings = dataclasses.field(default_factory=RecipeSettings)
    distribution: Literal["none", "mirrored"] = "none"
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    serving_precision: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_tokens: int = 2048
    dropout: float | None = None
    seed: int = 1
    window: int | None = None
    window_overlap: int | None = None
    whole_words: bool | None = None
    annotated_by_whitespace: bool | None = None
    transition_weight: float | None = None
    early_stopping_epochs: int | None = None
    checkpoint_directory: str | None = None
    checkpoint_minutes: float = 2.0
    serving_warm_up: ServingWarmUpSettings = dataclasses.field(default_factory=ServingWarmUpSettings)
    encoder_digest: str | None = None

    def __post_init__(self) -> None:
        check(self.encoder is None or bool(self.encoder), "encoder", "a folder or null", self.encoder)
        check(
            self.decoder == "softmax" or self.loss == "masked",
            "decoder",
            '"softmax" with the loss "seed", which scores every position by itself',
            self.decoder,
        )
        check(
            not self.annotated_by_whitespace or self.loss_is_of_single_pieces,
            "annotated_by_whitespace",
            'false or null with the decoder "crf" or the loss "seed", whose losses are of all pieces',
            self.annotated_by_whitespace,
        )
        check(self.epochs > 0, "epochs", "a positive number", self.epochs)
        for name in ("learning_rate", "head_learning_rate"):
            value = getattr(self, name)
            check(value is None or 0 < value <= 1, name, "a number above 0 and at most 1", value)
        check(0 <= self.warmup_fraction <= 1, "warmup_fraction", "0 to 1", self.warmup_fraction)
        check(0 <= self.weight_decay < 1, "weight_decay", "at least 0 and below 1", self.weight_decay)
        check(self.gradient_clip_norm > 0, "gradient_clip_norm", "a positive number", self.gradient_clip_norm)
        check(self.dropout is None or 0 <= self.dropout < 1, "dropout", "at least 0 and below 1", self.dropout)
        check(0 <= self.seed < 2**31, "seed", "0 to 2147483647", self.seed)
        check(self.window is None or self.window >= 4, "window", "at least 4 tokens", self.window)
        smallest_batch = self.window or 1
        check(
            self.batch_tokens >= smallest_batch,
            "batch_tokens",
            f"at least the {smallest_batch} tokens of one window",
            self.batch_tokens,
        )
        check(
            self.window_overlap is None or self.window_overlap >= 0,
            "window_overlap",
            "0 or more tokens",
            self.window_overlap,
        )
        if self.window is not None and self.window_overlap is not None:
            check(
                self.window_overlap < self.window - 2,
                "window_overlap",
                f"less than {self.window - 2}, the window without [CLS] and [SEP]",
                self.window_overlap,
            )
        check(
            self.transition_weight is None or 0 <= self.transition_weight <= 10,
            "transition_weight",
            "0 to 10 or null",
            self.transition_weight,
        )
        check(
            self.early_stopping_epochs is None or self.early_stopping_epochs > 0,
            "early_stopping_epochs",
            "a positive number or null",
            self.early_stopping_epochs,
        )
        check(
            self.checkpoint_directory is None or bool(self.checkpoint_directory),
            "checkpoint_directory",
            "a folder or null",
            self.checkpoint_directory,
        )
        check(self.checkpoint_minutes > 0, "checkpoint_minutes", "a positive number", self.checkpoint_minutes)

    @property
    def peak_learning_rate(self) -> float:
        """The peak of the schedule, with the default filled in; `warm_start` is None if no version was there."""
        if self.learning_rate is not None:
            return self.learning_rate
        is_random = self.encoder is None and self.warm_start is None
        return RANDOM_LEARNING_RATE if is_random else PRETRAINED_LEARNING_RATE

    @property
    def peak_head_learning_rate(self) -> float:
        """The peak of the schedule for the fusion and the classifier, with the default filled in."""
        if self.head_learning_rate is not None:
            return self.head_learning_rate
        starts_from_nothing = self.encoder is not None and self.warm_start is None
        return self.peak_learning_rate * (10 if starts_from_nothing else 1)

    @property
    def loss_is_of_single_pieces(self) -> bool:
        """Whether pieces may be left out of the loss; those of the CRF and the seed are of all pieces of a window."""
        return self.decoder == "softmax" and self.loss == "masked"

    @property
    def tags_count_in_every_window(self) -> bool:
        """Whether a token in several windows counts in each: the seed's loss scores every padded row as a whole."""
        return self.loss == "seed"

    @property
    def compute_dtype(self) -> str:
        """The type in which training computes products."""
        return self.precision.removeprefix("mixed_")

    def window_size(self, max_positions: int) -> tuple[int, int]:
        """Returns tokens of a window and of the overlap for an encoder with `max_positions`.

        Raises:
            SettingsError: the window is larger than the encoder's positions, or the overlap leaves no room.
        """
        window = min(512, max_positions) if self.window is None else self.window
        check(window <= max_positions, "window", f"at most {max_positions}, the encoder's positions", window)
        overlap = window // 4 if self.window_overlap is None else self.window_overlap
        check(overlap < window - 2, "window_overlap", f"less than {window - 2}", overlap)
        check(
            self.batch_tokens >= window, "batch_tokens", f"at least {window}, the tokens of a window", self.batch_tokens
        )
        return window, overlap
