"""The configuration of a pipeline: one YAML file, checked as a whole before anything runs."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components import progress
from components.evaluator.settings import EvaluatorSettings
from components.example_gen.settings import DataSettings, ReadingSettings, check_files
from components.infra_validator.settings import InfraValidatorSettings
from components.pusher.settings import PusherSettings
from components.settings import SettingsError, check, parse_settings
from components.trainer.checkpoint_error import CheckpointError
from components.trainer.encoder_directory import (
    check_vocabulary_size,
    check_weight_files,
    detect_encoder_directory,
    encoder_config_from_directory,
)
from components.trainer.encoder_tokenizer import (
    CASED_SHARE,
    VOCABULARY,
    cased_share,
    check_vocabulary_file,
    declared_case,
)
from components.trainer.settings import TrainerSettings
from components.transform.settings import TransformSettings
from components.transform.vocabulary import Vocabulary, VocabularyError
from kubeflow.settings import KubeflowSettings


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Everything that a pipeline needs to know.

    Args:
        data: the annotated text.
        output: the folder that receives everything a run leaves: `serving/`, `metrics.json`, `run.log`, the metadata
            store and the artifacts.
        name: of the pipeline and of the served model: lower-case letters, digits and `-`, because Kubeflow accepts
            nothing else.
        transform: the tokenizer and its vocabulary.
        trainer: the tagger and its training.
        evaluator: the gates.
        infra_validator: the trial on a model server.
        pusher: how pushed versions are kept.
        kubeflow: resources, places and volumes of the steps on a cluster; a local run does not read it.
        cache: whether steps whose inputs and settings have not changed are taken from the last run.

    Raises:
        SettingsError: a value is impossible, or two settings contradict each other.
    """

    data: DataSettings
    output: str
    name: str = "ner"
    transform: TransformSettings = dataclasses.field(default_factory=TransformSettings)
    trainer: TrainerSettings = dataclasses.field(default_factory=TrainerSettings)
    evaluator: EvaluatorSettings = dataclasses.field(default_factory=EvaluatorSettings)
    infra_validator: InfraValidatorSettings = dataclasses.field(default_factory=InfraValidatorSettings)
    pusher: PusherSettings = dataclasses.field(default_factory=PusherSettings)
    kubeflow: KubeflowSettings = dataclasses.field(default_factory=KubeflowSettings)
    cache: bool = True

    def __post_init__(self) -> None:
        check(
            re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", self.name) is not None,
            "name",
            "1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit",
            self.name,
        )
        check(bool(self.output), "output", "a folder", self.output)

    @property
    def serving_directory(self) -> Path:
        """The folder that a model server watches: `<output>/serving/<name>`."""
        return Path(self.output) / "serving" / self.name


# Settings that are paths: in the YAML file they are relative to its folder, as options to the working directory.
PATHS = (
    ("output",),
    ("data", "train"),
    ("data", "dev"),
    ("data", "test"),
    ("transform", "vocabulary"),
    ("trainer", "encoder"),
    ("trainer", "warm_start"),
)


def read_configuration(
    path: Path, overrides: Mapping[tuple[str, ...], Any], *, on_cluster: bool = False
) -> Configuration:
    """Reads a YAML file, applies `overrides` and checks everything that can be checked without running.

    Args:
        path: the YAML file.
        overrides: values by their place, such as `("trainer", "epochs"): 3`; they win over the file.
        on_cluster: whether it is for a cluster: then what lies on its volumes is not looked for here.

    Raises:
        SettingsError: what is wrong, where, and what was expected.
    """
    values = _read_yaml(path)
    _anchor_paths(values, path.resolve().parent)
    for place, value in overrides.items():
        _set(values, place, value)
    # A corpus given by options replaces the file's corpus: its dev and test sets belong to another train set.
    if ("data", "train") in overrides:
        for split in ("dev", "test"):
            if ("data", split) not in overrides and isinstance(values.get("data"), dict):
                values["data"].pop(split, None)
    _take_from_encoder(values)
    configuration = parse_settings(Configuration, values)
    check_configuration(configuration, on_cluster=on_cluster)
    if on_cluster:
        _check_encoder_on_cluster(values)
    return configuration


def read_reading_settings(path: Path | None, overrides: Mapping[str, Any]) -> ReadingSettings:
    """Returns how a pipeline reads annotated text: the `data` section of its YAML file, without the files.

    Args:
        path: the YAML file; None: the defaults.
        overrides: setting -> value; they win over the file.

    Raises:
        SettingsError: what is wrong, where, and what was expected.
    """
    values = {} if path is None else _read_yaml(path)
    known = [field.name for field in dataclasses.fields(Configuration)]
    for key in values:
        check(key in known, str(key), f"a section of a pipeline's configuration ({', '.join(known)})", key)
    data = {} if values.get("data") is None else values["data"]
    check(isinstance(data, dict), "data", "a mapping of settings", data)
    # Only the files and how they are split; what is misspelt stays, to be refused.
    others = {field.name for field in dataclasses.fields(DataSettings)}
    others -= {field.name for field in dataclasses.fields(ReadingSettings)}
    reading = {name: value for name, value in data.items() if name not in others}
    return parse_settings(ReadingSettings, {**reading, **overrides}, "data")


def check_configuration(configuration: Configuration, *, on_cluster: bool = False) -> None:
    """Raises SettingsError unless the files are there and the output folder can be written.

    Args:
        configuration: what to check.
        on_cluster: whether it is for a cluster: then what lies on its volumes is not looked for here.
    """

    def is_here(path: str | None) -> bool:
        return path is not None and not (on_cluster and configuration.kubeflow.is_mounted(path))

    if any(is_here(path) for path in configuration.data.files.values()):
        check_files(configuration.data)
    encoder = configuration.trainer.encoder
    if encoder is not None and is_here(encoder):
        check(Path(encoder).is_dir(), "trainer.encoder", "an existing folder with a pretrained encoder", encoder)
    vocabulary = configuration.transform.vocabulary
    if vocabulary is not None and is_here(vocabulary):
        check(Path(vocabulary).is_file(), "transform.vocabulary", "an existing vocab.txt", vocabulary)
    if encoder is not None and is_here(encoder):
        _check_encoder(configuration.trainer, Path(encoder), vocabulary if is_here(vocabulary) else None)
    if not is_here(configuration.output):
        return
    output = Path(configuration.output)
    check(not output.exists() or output.is_dir(), "output", "a folder, new or existing", configuration.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"output: {output} cannot be made: {error.strerror}") from error


def _check_encoder(settings: TrainerSettings, encoder: Path, vocabulary: str | None) -> None:
    """Refuses what the Trainer would refuse when the whole corpus has gone through Transform."""
    try:
        config = encoder_config_from_directory(encoder)
        check_weight_files(encoder)
        if vocabulary is not None:
            check_vocabulary_size(config, len(_read_vocabulary(Path(vocabulary))), vocabulary)
    except CheckpointError as error:
        raise SettingsError(f"trainer.encoder: {error}") from error
    settings.window_size(config.max_positions)


def _check_encoder_on_cluster(values: dict[str, Any]) -> None:
    """An encoder that lies on a volume cannot be asked for its vocabulary and its case."""
    encoder = _section(values, "trainer").get("encoder")
    if isinstance(encoder, str) and not Path(encoder).is_dir():
        for name in ("vocabulary", "lower_case"):
            given = _section(values, "transform").get(name)
            check(given is not None, f"transform.{name}", f"a value, because {encoder} cannot be read here", given)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 ({error})"
        raise SettingsError(f"the configuration {path} cannot be read: {reason}") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"the configuration {path} is not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"the configuration {path}: expected a mapping of settings; received {values!r}")
    return values


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    for *section, name in PATHS:
        parent = _section(values, *section)
        value = parent.get(name)
        if isinstance(value, str) and value and "://" not in value:
            parent[name] = os.path.normpath(folder / Path(value).expanduser())


def _section(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """The mapping at a place; an empty, detached one where there is none, or something that parsing will refuse."""
    for name in names:
        inner = values.get(name)
        values = inner if isinstance(inner, dict) else {}
    return values


def _take_from_encoder(values: dict[str, Any]) -> None:
    """A pretrained encoder brings its vocabulary and the case of its tokenizer, unless they are given.

    Raises:
        SettingsError: the folder or the vocabulary, by which the case is decided, cannot be read.
    """
    encoder = _section(values, "trainer").get("encoder")
    transform = _section(values, "transform")
    if not isinstance(encoder, str) or not Path(encoder).is_dir():
        return
    try:
        # Of a folder that is no encoder, it would be said that its vocabulary is missing.
        detect_encoder_directory(encoder)
        if transform.get("vocabulary") is None:
            check_vocabulary_file(Path(encoder))
    except CheckpointError as error:
        raise SettingsError(f"trainer.encoder: {error}") from error
    if transform.get("vocabulary") is None:
        _set(values, ("transform", "vocabulary"), str(Path(encoder) / VOCABULARY))
    if transform.get("lower_case") is None:
        vocabulary = _section(values, "transform")["vocabulary"]
        if isinstance(vocabulary, str):
            _set(values, ("transform", "lower_case"), _lower_case_of_encoder(Path(encoder), Path(vocabulary)))


def _set(values: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    for key in place[:-1]:
        if not isinstance(values.get(key), dict):
            values[key] = {}
        values = values[key]
    values[place[-1]] = value


def _lower_case_of_encoder(encoder: Path, vocabulary: Path) -> bool:
    """The case that the encoder's folder declares, else the one that its vocabulary shows.

    It is told where nothing declares it, and where what is declared and the vocabulary disagree.
    """
    try:
        declared = declared_case(encoder)
    except CheckpointError as error:
        raise SettingsError(f"trainer.encoder: {error}") from error
    share = cased_share(_read_vocabulary(vocabulary).tokens)
    lower_case = share < CASED_SHARE
    if declared is not None:
        if declared != lower_case:
            effect = "lower-cased text never meets them" if declared else "words with capital letters become [UNK]"
            progress.report(
                f"transform.lower_case: {str(declared).lower()}, as {encoder} declares it, although {share:.2%} of the "
                f"pieces in {vocabulary.name} have one of the letters A to Z: {effect}; set transform.lower_case if "
                f"the encoder was pretrained otherwise"
            )
        return declared
    progress.report(
        f"transform.lower_case: {str(lower_case).lower()}, because {encoder} does not declare it and {share:.2%} of "
        f"the pieces in {vocabulary.name} have one of the letters A to Z (from {CASED_SHARE:.0%} it is cased)"
    )
    return lower_case


def _read_vocabulary(path: Path) -> Vocabulary:
    try:
        return Vocabulary.from_bytes(path.read_bytes(), source=str(path))
    except VocabularyError as error:
        raise SettingsError(f"transform.vocabulary: {error}") from error
    except OSError as error:
        raise SettingsError(f"transform.vocabulary: {path} cannot be read: {error.strerror}") from error
