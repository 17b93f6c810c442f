"""The runtime parameters of the pipeline: what a run may set without compiling again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from components.example_gen.settings import SPLITS
from components.trainer.settings import PRETRAINED_LEARNING_RATE, RANDOM_LEARNING_RATE, TrainerSettings
from kubeflow import overrides
from pipeline.configuration import Configuration

EXAMPLE_GEN = "AnnotatedTextExampleGen"
TRAINER = "Trainer"
EVALUATOR = "Evaluator"
PUSHER = "VersionPusher"
STRING, INTEGER, DOUBLE = "STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE"


@dataclasses.dataclass(frozen=True)
class RuntimeParameter:
    """A parameter of a run.

    Attributes:
        name: what users give.
        type: STRING, NUMBER_INTEGER or NUMBER_DOUBLE.
        default: from the configuration.
        description: one line.
        component: id of the component that receives it.
        keys: component parameters that take the value; one with `__` overrides a value inside JSON settings.
    """

    name: str
    type: str
    default: str | int | float
    description: str
    component: str
    keys: tuple[str, ...]


def runtime_parameters(
    configuration: Configuration, properties: Mapping[str, Mapping[str, Any]]
) -> list[RuntimeParameter]:
    """Returns the runtime parameters of the pipeline of `configuration`.

    Args:
        configuration: gives the defaults.
        properties: component id -> parameters with their constant values, as compiled.
    """
    data = properties[EXAMPLE_GEN]
    return [
        RuntimeParameter(
            "data", STRING, data["input_base"], "folder above the annotated text", EXAMPLE_GEN, ("input_base",)
        ),
        *_split_parameters(configuration, data),
        RuntimeParameter(
            "span", INTEGER, overrides.NEWEST_SPAN, "which {SPAN} to read; -1 for the newest", EXAMPLE_GEN,
            (overrides.SPAN,),
        ),
        *_trainer_parameters(configuration.trainer),
        *_gate_parameters(properties[EVALUATOR]),
        RuntimeParameter(
            "serving_directory", STRING, properties[PUSHER]["serving_directory"],
            "folder that the model server watches", PUSHER, ("serving_directory",),
        ),
    ]  # fmt: skip


def _split_parameters(configuration: Configuration, data: Mapping[str, Any]) -> list[RuntimeParameter]:
    patterns = [split["pattern"] for split in json.loads(data["input_config"])["splits"]]
    keys = [overrides.override_name("input_config", "splits", index, "pattern") for index in range(len(SPLITS))]
    given = configuration.data.files
    parameters = []
    for split, pattern, key in zip(SPLITS, patterns, keys, strict=True):
        if split not in given:
            continue
        # Splits that are cut from train name train's file, too.
        followers = [keys[SPLITS.index(name)] for name in SPLITS if split == "train" and name not in given]
        description = f"file of the {split} texts below the data folder; may contain {{SPAN}}"
        parameters.append(RuntimeParameter(split, STRING, pattern, description, EXAMPLE_GEN, (key, *followers)))
    return parameters


def _trainer_parameters(settings: TrainerSettings) -> list[RuntimeParameter]:
    usual = RANDOM_LEARNING_RATE if settings.encoder is None else PRETRAINED_LEARNING_RATE
    table: list[tuple[str, str, str | int | float, str]] = [
        ("epochs", INTEGER, settings.epochs, "passes over the training texts"),
        ("learning_rate", DOUBLE, settings.learning_rate or usual, "peak of the learning rate"),
        ("batch_tokens", INTEGER, settings.batch_tokens, "tokens of a training batch"),
        ("weight_decay", DOUBLE, settings.weight_decay, "decoupled weight decay"),
        ("seed", INTEGER, settings.seed, "of initial weights, order and dropout"),
        ("fusion", STRING, settings.fusion, "dynamic, static or last"),
    ]
    if settings.warm_start is not None:
        table.append(("warm_start", STRING, settings.warm_start, "serving folder whose newest version is the start"))
    return [
        RuntimeParameter(name, type_, default, description, TRAINER, (overrides.override_name("custom_config", name),))
        for name, type_, default, description in table
    ]


def _gate_parameters(properties: Mapping[str, Any]) -> list[RuntimeParameter]:
    """The gate of the micro F1, if the configuration has one."""
    for index, metric in enumerate(json.loads(properties["eval_config"])["metrics_specs"][0]["metrics"]):
        bound = metric.get("threshold", {}).get("value_threshold", {}).get("lower_bound")
        if json.loads(metric["config"])["name"] == "f1" and bound is not None:
            place = ("metrics_specs", 0, "metrics", index, "threshold", "value_threshold", "lower_bound")
            key = overrides.override_name("eval_config", *place)
            description = "entity F1 below which a model is not pushed"
            return [RuntimeParameter("minimum_f1", DOUBLE, bound, description, EVALUATOR, (key,))]
    return []


def insert(specification: dict[str, Any], parameters: Sequence[RuntimeParameter]) -> None:
    """Makes a compiled specification take `parameters`, in place.

    Args:
        specification: the PipelineSpec as JSON; tasks stand in the DAG of an exit handler, or in the root.
        parameters: each with its component, which must be there.

    Raises:
        OverrideError: a key names no value in the settings of its component.
    """
    for parameter in parameters:
        definition = {"parameterType": parameter.type}
        specification["root"].setdefault("inputDefinitions", {}).setdefault("parameters", {})[parameter.name] = {
            **definition,
            "defaultValue": parameter.default,
            "description": parameter.description,
            "isOptional": True,
        }
        dag = specification["root"]["dag"]
        for task in specification["root"]["dag"]["tasks"].values():
            component = specification["components"][task["componentRef"]["name"]]
            if parameter.component in component.get("dag", {}).get("tasks", {}):
                # TFX puts the tasks into a DAG of their own beside an exit handler, but hands no parameters down.
                task.setdefault("inputs", {}).setdefault("parameters", {})[parameter.name] = {
                    "componentInputParameter": parameter.name
                }
                definitions = component.setdefault("inputDefinitions", {}).setdefault("parameters", {})
                definitions[parameter.name] = dict(definition)
                dag = component["dag"]
        task = dag["tasks"][parameter.component]
        for key in parameter.keys:
            _check_key(key, task["inputs"]["parameters"])
            task["inputs"]["parameters"][key] = {"componentInputParameter": parameter.name}
            component = specification["components"][parameter.component]
            component["inputDefinitions"]["parameters"][key] = dict(definition)


def _check_key(key: str, task_parameters: Mapping[str, Any]) -> None:
    name, separator, place = key.partition(overrides.SEPARATOR)
    if key == overrides.SPAN:
        return
    if name not in task_parameters:
        raise overrides.OverrideError(f"{key}: the component has no parameter {name!r}")
    if separator:
        overrides.read(json.loads(task_parameters[name]["runtimeValue"]["constant"]), place, key)


def constants(specification: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns task name -> its parameters with constant values, over all DAGs of a compiled specification."""
    return {
        name: {
            key: parameter["runtimeValue"]["constant"]
            for key, parameter in task.get("inputs", {}).get("parameters", {}).items()
            if "runtimeValue" in parameter
        }
        for tasks in all_tasks(specification)
        for name, task in tasks.items()
    }


def all_tasks(specification: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the tasks of each DAG of a compiled specification, the root's first."""
    dags = [specification["root"], *specification["components"].values()]
    return [dag["dag"]["tasks"] for dag in dags if "dag" in dag]
