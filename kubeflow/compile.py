"""Compiles the pipeline for the open-source Kubeflow Pipelines backend: the same `create_pipeline`, then the edits that
TFX's runner cannot make, then the acceptance rules.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from tfx.orchestration.kubeflow.decorators import FinalStatusStr
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

from kubeflow.acceptance import parse_pipeline
from kubeflow.exit_handler import report_end
from kubeflow.pods import ENTRYPOINT_COMMAND
from kubeflow.runtime_parameters import (
    EXAMPLE_GEN,
    STRING,
    TRAINER,
    RuntimeParameter,
    all_tasks,
    constants,
    insert,
    runtime_parameters,
)
from kubeflow.settings import ComponentSettings, KubeflowSettings
from pipeline.configuration import Configuration
from pipeline.pipeline import create_pipeline

EXIT_HANDLER = "report-end"
# As in a local run: workers in other processes would each import TensorFlow again.
BEAM_ARGUMENTS = ("--direct_running_mode=in_memory", "--direct_num_workers=1")
# Placeholders that the backend's driver resolves.
_RUN_NAME, _RUN_ID = "{{$.pipeline_job_name}}", "{{$.pipeline_job_uuid}}"
_BEAM_STEP = ComponentSettings(cpu=2.0, memory=4.0)
_LIGHT_STEP = ComponentSettings(cpu=1.0, memory=2.0)
# What a component gets unless its settings say otherwise; a GPU for the Trainer follows from an image of its own.
DEFAULT_RESOURCES: Mapping[str, ComponentSettings] = {
    EXAMPLE_GEN: _BEAM_STEP,
    "StatisticsGen": _BEAM_STEP,
    "Transform": _BEAM_STEP,
    "Evaluator": ComponentSettings(cpu=2.0, memory=8.0),
    "ServingInfraValidator": ComponentSettings(cpu=2.0, memory=4.0),
    TRAINER: ComponentSettings(cpu=4.0, memory=16.0),
}


class CompileError(ValueError):
    """Raised for settings that do not fit the pipeline; the message names them."""


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of the tasks.

    Attributes:
        default: for all components but the Trainer; should be pinned by tag or digest.
        trainer: for the Trainer, if it differs: then it is taken for one with GPU support.
    """

    default: str
    trainer: str | None = None

    def __post_init__(self) -> None:
        for image in (self.default, self.trainer):
            if image is None:
                continue
            name = image.rpartition("/")[2]
            if not image or " " in image or ("@" not in name and (":" not in name or name.endswith(":latest"))):
                raise CompileError(
                    f"the image {image!r} is not pinned: give a tag other than latest, or a digest, so that every run "
                    "of a version runs the same code"
                )


def compile_pipeline(
    configuration: Configuration, settings: KubeflowSettings, images: Images, *, pipeline_root: str
) -> str:
    """Returns the text of the compiled pipeline: the specification and, if needed, the platform document.

    Args:
        configuration: of the pipeline; gives the defaults of the runtime parameters.
        settings: of the cluster.
        images: of the tasks.
        pipeline_root: object store URI; the file does not carry it, so it stands in a comment at its head.

    Raises:
        CompileError: settings name a component that is not there.
        AcceptanceError: the backend would not run the result.
    """
    pipeline = create_pipeline(configuration, pipeline_root=pipeline_root, beam_pipeline_args=BEAM_ARGUMENTS)
    ids = [component.id for component in pipeline.components]
    _check_ids(settings.components, [*ids, EXIT_HANDLER])
    runner = KubeflowV2DagRunner(
        KubeflowV2DagRunnerConfig(
            default_image=images.default,
            default_commands=ENTRYPOINT_COMMAND,
            use_pipeline_spec_2_1=True,
        )
    )
    if settings.exit_handler:
        runner.set_exit_handler(
            report_end(
                final_status=FinalStatusStr(), run_name=_RUN_NAME, run_id=_RUN_ID, notify_url=settings.notify_url
            ).with_id(EXIT_HANDLER)
        )
    specification = runner.run(pipeline, write_out=False)["pipelineSpec"]
    # Not by TFX's map of images, which warns about what is right and is silent about ids that do not exist.
    _containers(specification)[_label(TRAINER)]["image"] = images.trainer or images.default
    check_images(specification, images)
    parameters = list(runtime_parameters(configuration, constants(specification)))
    if settings.exit_handler:
        meaning = "receives a POST at the end of the run; empty for none"
        parameters.append(
            RuntimeParameter("notify_url", STRING, settings.notify_url, meaning, EXIT_HANDLER, ("notify_url",))
        )
    insert(specification, parameters)
    update_arguments(specification)
    set_resources(specification, settings, gpu_image=images.trainer is not None)
    set_caching(specification, settings, default=configuration.cache)
    platform = platform_of(specification, settings)
    text = _header(configuration, parameters, pipeline_root)
    text += yaml.safe_dump_all([specification, *([platform] if platform else [])], sort_keys=True, allow_unicode=True)
    parse_pipeline(text, "the compiled pipeline")
    return text


def check_images(specification: Mapping[str, Any], images: Images) -> None:
    """Checks that every task has its image: TFX's public one, which it falls back to, lacks the project.

    Raises:
        CompileError: naming the executor and its image.
    """
    for label, executor in _containers(specification).items():
        expected = images.trainer if images.trainer and label == _label(TRAINER) else images.default
        if executor["image"] != expected:
            raise CompileError(f"{label}: the image is {executor['image']!r} instead of {expected!r}")


def update_arguments(specification: dict[str, Any]) -> None:
    """Tells each container the inputs of its component, which have grown since TFX wrote the arguments."""
    for component in specification["components"].values():
        executor = _containers(specification).get(component.get("executorLabel", ""))
        if executor is None:
            continue
        flag = "--json_serialized_inputs_spec_args"
        index = executor["args"].index(flag) + 1
        executor["args"][index] = json.dumps(component.get("inputDefinitions", {}), sort_keys=True)
        # The hook that would call ExampleGen's driver is never called by this backend; the entry point does it.
        executor.pop("lifecycle", None)


def set_resources(specification: dict[str, Any], settings: KubeflowSettings, *, gpu_image: bool) -> None:
    """Sets limits of processors and memory, and accelerators, in place."""
    for task in _container_tasks(specification):
        wanted = settings.components.get(task, ComponentSettings())
        default = DEFAULT_RESOURCES.get(task, _LIGHT_STEP)
        resources: dict[str, Any] = {
            "cpuLimit": wanted.cpu or default.cpu,
            "memoryLimit": wanted.memory or default.memory,
        }
        gpus = wanted.gpus if wanted.gpus is not None else int(gpu_image and task == TRAINER)
        if gpus:
            # 64-bit numbers are strings in JSON.
            resources["accelerator"] = {"type": wanted.gpu_type, "count": str(gpus)}
        _containers(specification)[_label(task)]["resources"] = resources


def set_caching(specification: dict[str, Any], settings: KubeflowSettings, *, default: bool) -> None:
    """Sets for each task whether an earlier execution may be taken.

    Never for ExampleGen, because the backend's key covers parameters, command and image, but not the data; nor for the
    exit handler.
    """
    for tasks in all_tasks(specification):
        for name, task in tasks.items():
            own = settings.components.get(name, ComponentSettings()).cache
            cached = (default if own is None else own) and name not in (EXAMPLE_GEN, EXIT_HANDLER)
            task["cachingOptions"] = {"enableCache": True} if cached else {}


def platform_of(specification: Mapping[str, Any], settings: KubeflowSettings) -> dict[str, Any] | None:
    """Returns the platform document, or None where nothing is asked of Kubernetes."""
    executors = {}
    for task in _container_tasks(specification):
        own = settings.components.get(task, ComponentSettings())
        fields = {
            "nodeSelector": {"labels": dict(own.node_selector)} if own.node_selector else None,
            "tolerations": [
                {key: value for key, value in dataclasses.asdict(toleration).items() if value}
                for toleration in own.tolerations
            ],
            "pvcMount": [{"constant": volume.claim, "mountPath": volume.mount} for volume in settings.volumes],
            "imagePullPolicy": settings.image_pull_policy,
            "imagePullSecret": [{"secretName": settings.image_pull_secret}] if settings.image_pull_secret else None,
        }
        present = {key: value for key, value in fields.items() if value}
        if present:
            executors[_label(task)] = present
    if not executors:
        return None
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}


def _label(component: str) -> str:
    return f"{component}_executor"


def _containers(specification: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    executors = specification["deploymentSpec"]["executors"]
    return {label: executor["container"] for label, executor in executors.items() if "container" in executor}


def _container_tasks(specification: Mapping[str, Any]) -> list[str]:
    labels = _containers(specification)
    return sorted(name for tasks in all_tasks(specification) for name in tasks if _label(name) in labels)


def _check_ids(names: Iterable[str], ids: list[str]) -> None:
    for name in names:
        if name not in ids:
            near = difflib.get_close_matches(name, ids, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(ids)}"
            raise CompileError(f"kubeflow.components.{name}: the pipeline has no such component; {hint}")


def _header(configuration: Configuration, parameters: Iterable[RuntimeParameter], pipeline_root: str) -> str:
    lines = [
        f"# The pipeline {configuration.name} for Kubeflow Pipelines, written by `fusion-ner kubeflow compile`.",
        f"# Pipeline root, to be given with each run: {pipeline_root}",
        "# Runtime parameters:",
        *(f"#   {parameter.name}: {parameter.description} [{parameter.default!r}]" for parameter in parameters),
    ]
    return "\n".join(lines) + "\n"
