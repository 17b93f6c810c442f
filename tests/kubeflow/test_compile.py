"""Tests of compiling the project's own pipeline, of each edit, and of the whole way to a pushed model."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.settings import SettingsError
from kubeflow.acceptance import findings, parse_pipeline
from kubeflow.compile import (
    EXIT_HANDLER,
    CompileError,
    Images,
    check_images,
    compile_pipeline,
    platform_of,
    set_caching,
    set_resources,
)
from kubeflow.settings import ComponentSettings, KubeflowSettings, TolerationSettings, VolumeSettings
from kubeflow.verify import verify
from pipeline.configuration import Configuration, read_configuration

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "zh"
IMAGES = Images("registry.example/ner:1", "registry.example/ner:1-gpu")
Document = dict[str, Any]
TINY = {
    "name": "tiny",
    "transform": {"vocabulary_size": 500},
    "trainer": {
        "random_encoder": {"hidden_size": 16, "num_layers": 1, "num_heads": 1, "intermediate_size": 16},
        "epochs": 1,
        "learning_rate": 0.003,
    },
    "evaluator": {"minimum_f1": 0.0},
    "infra_validator": {"texts": 2, "batch_sizes": [1]},
}


@pytest.fixture(scope="module")
def tiny_configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a tiny model on the beginning of the bundled corpus; the test split is cut from train."""
    folder = tmp_path_factory.mktemp("tiny")
    for split, count in (("train", 40), ("dev", 10)):
        lines = (EXAMPLES / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{split}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
    data = {"train": "train.jsonl", "dev": "dev.jsonl", "test_fraction": 0.3}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "data": data, "output": "output"}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def configuration(tiny_configuration: Path) -> Configuration:
    return read_configuration(tiny_configuration, {})


@pytest.fixture(scope="module")
def compiled_text(configuration: Configuration) -> str:
    settings = KubeflowSettings(
        components={
            "Trainer": ComponentSettings(
                memory=24, node_selector={"accelerator": "a100"}, tolerations=(TolerationSettings("nvidia.com/gpu"),)
            )
        },
        volumes=(VolumeSettings("ner-data", "/data"),),
    )
    return compile_pipeline(configuration, settings, IMAGES, pipeline_root="s3://bucket/ner")


@pytest.fixture
def specification(compiled_text: str) -> Document:
    return next(iter(yaml.safe_load_all(compiled_text)))


def _tasks(specification: Document) -> Document:
    return specification["components"]["tfx-dag"]["dag"]["tasks"]


def test_the_result_is_accepted(compiled_text: str) -> None:
    assert findings(compiled_text) == []


def test_it_is_the_pipeline_of_the_local_run(specification: Document) -> None:
    assert set(_tasks(specification)) == {
        "AnnotatedTextExampleGen",
        "StatisticsGen",
        "PackagedSchema",
        "ExampleValidator",
        "Transform",
        "Trainer",
        "Evaluator",
        "ServingInfraValidator",
        "VersionPusher",
    }
    assert set(specification["root"]["dag"]["tasks"]) == {"tfx-dag", EXIT_HANDLER}


def test_runtime_parameters_have_the_defaults_of_the_configuration(
    specification: Document, tiny_configuration: Path
) -> None:
    definitions = specification["root"]["inputDefinitions"]["parameters"]
    assert {name: definition["defaultValue"] for name, definition in definitions.items()} == {
        "data": str(tiny_configuration.parent),
        "train": "train.jsonl",
        "dev": "dev.jsonl",
        "span": -1,
        "epochs": 1,
        "learning_rate": 0.003,
        "batch_tokens": 2048,
        "weight_decay": 0.01,
        "seed": 1,
        "fusion": "dynamic",
        "minimum_f1": 0.0,
        "serving_directory": str(tiny_configuration.parent / "output/serving/tiny"),
        "notify_url": "",
    }
    assert definitions["epochs"]["parameterType"] == "NUMBER_INTEGER"


def test_runtime_parameters_reach_their_components(specification: Document) -> None:
    handed_down = specification["root"]["dag"]["tasks"]["tfx-dag"]["inputs"]["parameters"]
    assert handed_down["epochs"] == {"componentInputParameter": "epochs"}
    assert "notify_url" not in handed_down
    trainer = _tasks(specification)["Trainer"]["inputs"]["parameters"]
    assert trainer["custom_config__epochs"] == {"componentInputParameter": "epochs"}
    arguments = specification["deploymentSpec"]["executors"]["Trainer_executor"]["container"]["args"]
    described = json.loads(arguments[arguments.index("--json_serialized_inputs_spec_args") + 1])
    assert described["parameters"]["custom_config__epochs"] == {"parameterType": "NUMBER_INTEGER"}
    reader = _tasks(specification)["AnnotatedTextExampleGen"]["inputs"]["parameters"]
    # The test split is cut from train, so it follows train's file.
    assert reader["input_config__splits__2__pattern"] == {"componentInputParameter": "train"}


def test_resources(specification: Document) -> None:
    executors = specification["deploymentSpec"]["executors"]
    assert executors["Trainer_executor"]["container"]["resources"] == {
        "cpuLimit": 4.0,
        "memoryLimit": 24.0,
        "accelerator": {"type": "nvidia.com/gpu", "count": "1"},
    }
    assert executors["AnnotatedTextExampleGen_executor"]["container"]["resources"] == {
        "cpuLimit": 2.0,
        "memoryLimit": 4.0,
    }
    assert all("resources" in executor["container"] for executor in executors.values())


@pytest.mark.parametrize(
    ("settings", "gpu_image", "gpus"),
    [
        pytest.param(ComponentSettings(), True, "1", id="an image of its own"),
        pytest.param(ComponentSettings(), False, None, id="the common image"),
        pytest.param(ComponentSettings(gpus=4), False, "4", id="asked for"),
        pytest.param(ComponentSettings(gpus=0), True, None, id="not wanted"),
    ],
)
def test_gpus(specification: Document, settings: ComponentSettings, gpu_image: bool, gpus: str | None) -> None:
    set_resources(specification, KubeflowSettings(components={"Trainer": settings}), gpu_image=gpu_image)
    resources = specification["deploymentSpec"]["executors"]["Trainer_executor"]["container"]["resources"]
    assert resources.get("accelerator", {}).get("count") == gpus


@pytest.mark.parametrize("default", [True, False])
def test_caching(specification: Document, default: bool) -> None:
    settings = KubeflowSettings(
        components={
            "Transform": ComponentSettings(cache=not default),
            "AnnotatedTextExampleGen": ComponentSettings(cache=True),
        }
    )
    set_caching(specification, settings, default=default)
    cached = {name for name, task in _tasks(specification).items() if task["cachingOptions"].get("enableCache")}
    assert "AnnotatedTextExampleGen" not in cached
    assert ("Trainer" in cached) is default
    assert ("Transform" in cached) is not default
    assert specification["root"]["dag"]["tasks"][EXIT_HANDLER]["cachingOptions"] == {}


def test_platform_document(compiled_text: str, specification: Document) -> None:
    _, platform = yaml.safe_load_all(compiled_text)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(specification["deploymentSpec"]["executors"])
    assert executors["Trainer_executor"] == {
        "nodeSelector": {"labels": {"accelerator": "a100"}},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "pvcMount": [{"constant": "ner-data", "mountPath": "/data"}],
    }
    assert platform_of(specification, KubeflowSettings()) is None
    pulling = platform_of(specification, KubeflowSettings(image_pull_policy="Always", image_pull_secret="registry"))
    assert pulling is not None
    assert pulling["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["VersionPusher_executor"] == {
        "imagePullPolicy": "Always",
        "imagePullSecret": [{"secretName": "registry"}],
    }


def test_images(specification: Document) -> None:
    executors = specification["deploymentSpec"]["executors"]
    images = {label: executor["container"]["image"] for label, executor in executors.items()}
    assert images.pop("Trainer_executor") == "registry.example/ner:1-gpu"
    assert set(images.values()) == {"registry.example/ner:1"}
    wrong = copy.deepcopy(specification)
    wrong["deploymentSpec"]["executors"]["Transform_executor"]["container"]["image"] = (
        "gcr.io/tfx-oss-public/tfx:1.16.0"
    )
    with pytest.raises(CompileError, match=r"Transform_executor: the image is 'gcr\.io"):
        check_images(wrong, IMAGES)


@pytest.mark.parametrize("image", ["", "registry.example/ner", "registry.example:5000/ner", "ner:latest", "a b:1"])
def test_images_that_are_not_pinned(image: str) -> None:
    with pytest.raises(CompileError, match="is not pinned"):
        Images(image)


def test_images_that_are_pinned() -> None:
    Images("registry.example:5000/ner:1", "ner@sha256:0123")


def test_a_misspelt_component_is_refused(configuration: Configuration) -> None:
    settings = KubeflowSettings(components={"Trainier": ComponentSettings(memory=1)})
    with pytest.raises(CompileError, match=r"components\.Trainier: .*did you mean 'Trainer'"):
        compile_pipeline(configuration, settings, IMAGES, pipeline_root="s3://b")


def test_a_configuration_without_learning_rate_has_a_default(configuration: Configuration) -> None:
    trainer = dataclasses.replace(configuration.trainer, learning_rate=None)
    text = compile_pipeline(
        dataclasses.replace(configuration, trainer=trainer), KubeflowSettings(), Images("ner:1"), pipeline_root="s3://b"
    )
    (specification,) = yaml.safe_load_all(text)
    assert specification["root"]["inputDefinitions"]["parameters"]["learning_rate"]["defaultValue"] == 5e-4


@pytest.mark.parametrize(
    ("section", "message"),
    [
        pytest.param({"components": {"Trainer": {"memory": 0}}}, "memory: expected a positive", id="no memory"),
        pytest.param({"components": {"Trainer": {"gpu": 1}}}, "kubeflow.components.Trainer.gpu: unknown", id="unknown"),
        pytest.param({"volumes": [{"claim": "c", "mount": "data"}]}, "an absolute path", id="relative mount"),
        pytest.param(
            {"volumes": [{"claim": "a", "mount": "/d"}, {"claim": "b", "mount": "/d/"}]}, "a mount path for", id="twice"
        ),
        pytest.param({"image_pull_policy": "always"}, "Always, IfNotPresent", id="pull policy"),
        pytest.param({"notify_url": "example.org"}, "an http:// or https:// URL", id="no URL"),
    ],
)
def test_settings_of_the_cluster_are_checked(tmp_path: Path, section: Document, message: str) -> None:
    path = tmp_path / "c.yaml"
    data = {"train": str(EXAMPLES / "train.jsonl")}
    path.write_text(yaml.safe_dump({"data": data, "output": "o", "kubeflow": section}), encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        read_configuration(path, {}, on_cluster=True)


def test_files_on_a_volume_are_not_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    values: Document = {
        "data": {"train": "/volume/{SPAN}/train.txt"},
        "output": "/volume/served",
        "trainer": {"encoder": "/volume/bert"},
        "transform": {"vocabulary": "/volume/bert/vocab.txt", "lower_case": True},
        "kubeflow": {"volumes": [{"claim": "c", "mount": "/volume"}]},
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    configuration = read_configuration(path, {}, on_cluster=True)
    text = compile_pipeline(configuration, configuration.kubeflow, Images("ner:1"), pipeline_root="s3://b")
    assert "/volume/bert/vocab.txt" in text
    with pytest.raises(SettingsError):
        read_configuration(path, {})
    del values["transform"]["lower_case"]
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"transform\.lower_case: expected a value, because /volume/bert"):
        read_configuration(path, {}, on_cluster=True)


def test_from_the_configuration_to_the_pushed_model(tiny_configuration: Path, tmp_path: Path) -> None:
    """The commands as users call them, in processes of their own: one that ran TensorFlow must not fork."""
    compiled, served = tmp_path / "pipeline.yaml", tmp_path / "served"

    def kubeflow(*words: str) -> str:
        command = [sys.executable, "-m", "pipeline.command_line", "kubeflow", *words]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    kubeflow(
        "compile", "--config", str(tiny_configuration), "--image", "ner:1", "--pipeline-root", "s3://bucket/ner",
        "--output", str(compiled),
    )  # fmt: skip
    output = kubeflow("verify", str(compiled), "-p", f"serving_directory={served}", "-p", "epochs=2", "-p", "seed=7")
    (version,) = (path for path in served.iterdir() if path.name.isdigit())
    assert f"pushed: {version}" in output
    assert (version / "saved_model.pb").is_file()
    assert [line.split()[1] for line in output.splitlines()[:10]] == ["done"] * 10


def test_the_configuration_of_the_documentation_compiles(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "kubeflow.md").read_text(encoding="utf-8")
    section = page.partition("## 4. Compile")[2]
    lines = section.partition("    name: ner")[2].partition("    fusion-ner kubeflow compile")[0].splitlines()
    path = tmp_path / "ner.yaml"
    path.write_text("name: ner\n" + "\n".join(line[4:] for line in lines[1:]) + "\n", encoding="utf-8")
    configuration = read_configuration(path, {}, on_cluster=True)
    text = compile_pipeline(configuration, configuration.kubeflow, IMAGES, pipeline_root="s3://mlpipeline/ner")
    specification, platform = yaml.safe_load_all(text)
    trainer = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["Trainer_executor"]
    assert trainer["pvcMount"][0] == {"constant": "ner-data", "mountPath": "/data"}
    definitions = specification["root"]["inputDefinitions"]["parameters"]
    assert definitions["train"]["defaultValue"] == "{SPAN}/train.jsonl"
    assert definitions["warm_start"]["defaultValue"] == "/models/ner"
    assert "custom_config__warm_start" in _tasks(specification)["Trainer"]["inputs"]["parameters"]


@pytest.mark.parametrize(("span", "expected"), [pytest.param(-1, 2, id="newest"), pytest.param(1, 1, id="given")])
def test_spans_are_resolved_in_the_task(tiny_configuration: Path, tmp_path: Path, span: int, expected: int) -> None:
    """ExampleGen alone, in a process of its own: its driver, which the backend never calls, finds the files."""
    for number in (1, 2):
        shutil.copytree(tiny_configuration.parent, tmp_path / "data" / str(number))
    values = yaml.safe_load(tiny_configuration.read_text(encoding="utf-8"))
    paths = {split: str(tmp_path / "data" / "{SPAN}" / f"{split}.jsonl") for split in ("train", "dev")}
    path = tmp_path / "spans.yaml"
    path.write_text(yaml.safe_dump({**values, "data": {**values["data"], **paths}}), encoding="utf-8")
    text = compile_pipeline(read_configuration(path, {}), KubeflowSettings(), Images("ner:1"), pipeline_root="s3://b")
    (specification,) = yaml.safe_load_all(text)
    tasks = _tasks(specification)
    for name in set(tasks) - {"AnnotatedTextExampleGen"}:
        del tasks[name]
    del specification["root"]["dag"]["tasks"][EXIT_HANDLER]
    result = verify(
        parse_pipeline(yaml.safe_dump(specification)),
        parameters={"span": span},
        pipeline_root="s3://b",
        work=tmp_path / "work",
        fork=False,
    )
    assert [task.error for task in result.tasks] == [""]
    output = tmp_path / "work/pods/AnnotatedTextExampleGen/tmp/kfp_outputs/output_metadata.json"
    examples = json.loads(output.read_text(encoding="utf-8"))["artifacts"]["examples"]["artifacts"][0]
    assert examples["metadata"]["custom:span"] == expected
    # The fingerprint of the local run, which covers the contents.
    assert "split:train,sha256:" in examples["metadata"]["input_fingerprint"]


def test_without_an_exit_handler_the_tasks_stand_in_the_root(configuration: Configuration) -> None:
    settings = KubeflowSettings(exit_handler=False)
    text = compile_pipeline(configuration, settings, IMAGES, pipeline_root="s3://bucket/ner")
    assert not findings(text)
    specification = next(yaml.safe_load_all(text))
    assert "Trainer" in specification["root"]["dag"]["tasks"]
    assert EXIT_HANDLER not in specification["components"]
    assert "notify_url" not in specification["root"]["inputDefinitions"]["parameters"]


def test_a_notification_needs_the_exit_handler() -> None:
    with pytest.raises(SettingsError, match="notify_url"):
        KubeflowSettings(exit_handler=False, notify_url="https://hooks.example/ner")
