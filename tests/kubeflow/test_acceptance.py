"""Tests of the acceptance rules: each fault, and the moment at which the backend reacts to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from kubeflow.acceptance import AcceptanceError, Moment, findings, parse_pipeline
from kubeflow.cel import CelError, input_names

Document = dict[str, Any]


def _text(*documents: Document) -> str:
    return yaml.safe_dump_all(documents)


def test_accepted(pipeline_document: Document, platform_document: Document) -> None:
    compiled = parse_pipeline(_text(pipeline_document, platform_document))
    assert compiled.name == "tiny-ner"
    assert set(compiled.specification.root.dag.tasks) == {"ExampleGen", "Trainer", "schema-importer"}
    assert compiled.deployment.executors["Trainer_executor"].container.command == [
        "python",
        "-m",
        "kubeflow.entrypoint",
    ]


def _tasks(document: Document) -> Document:
    return document["root"]["dag"]["tasks"]


def _executors(document: Document) -> Document:
    return document["deploymentSpec"]["executors"]


def _rename_importer(document: Document) -> None:
    task = _tasks(document).pop("schema-importer")
    task["taskInfo"]["name"] = "schema_importer"
    _tasks(document)["schema_importer"] = task


@pytest.mark.parametrize(
    ("change", "moment", "message"),
    [
        pytest.param(lambda d: d.update(schemaVersion="2.0.0"), Moment.UPLOAD, "only 2.1.0", id="schema 2.0"),
        pytest.param(lambda d: d.update(schema="2.1.0"), Moment.UPLOAD, "not a PipelineSpec", id="unknown field"),
        pytest.param(
            lambda d: d["pipelineInfo"].update(name="Tiny NER"), Moment.UPLOAD, "lower-case letters", id="name"
        ),
        pytest.param(lambda d: d.pop("pipelineInfo"), Moment.UPLOAD, "unknown template format", id="no name"),
        pytest.param(lambda d: d["root"]["dag"].update(tasks={}), Moment.UPLOAD, "no tasks", id="no tasks"),
        pytest.param(
            lambda d: _executors(d).update(Trainer_executor={"resolver": {}}),
            Moment.RUN, "resolvers are not implemented", id="resolver",
        ),
        pytest.param(
            lambda d: _executors(d).update(Trainer_executor={"customJob": {}}),
            Moment.RUN, "expected a container or an importer", id="custom job",
        ),
        pytest.param(lambda d: _executors(d).pop("Trainer_executor"), Moment.RUN, "no executor", id="missing executor"),
        pytest.param(
            lambda d: _tasks(d)["Trainer"]["componentRef"].update(name="Trainers"),
            Moment.RUN, "unknown component 'Trainers'", id="unknown component",
        ),
        pytest.param(
            lambda d: _tasks(d)["Trainer"].update(dependentTasks=["Transform"]),
            Moment.RUN, "unknown dependency 'Transform'", id="unknown dependency",
        ),
        pytest.param(
            lambda d: _tasks(d)["ExampleGen"].update(dependentTasks=["Trainer"]),
            Moment.RUN, "in a circle: ExampleGen, Trainer", id="circle",
        ),
        pytest.param(
            lambda d: _tasks(d)["schema-importer"].update(triggerPolicy={"condition": "1 == 1"}),
            Moment.RUN, "condition on an importer", id="condition on an importer",
        ),
        pytest.param(_rename_importer, Moment.FIRING, "underscore", id="underscore in an id"),
        pytest.param(
            lambda d: _executors(d)["Trainer_executor"]["container"].pop("image"),
            Moment.SILENT, "no image", id="no image",
        ),
        pytest.param(
            lambda d: _executors(d)["Trainer_executor"]["container"].pop("command"),
            Moment.SILENT, "no command", id="no command",
        ),
        pytest.param(
            lambda d: _executors(d)["Trainer_executor"]["container"].update(memory="1G"),
            Moment.SILENT, "memory", id="unknown field of the container",
        ),
        pytest.param(
            lambda d: _tasks(d)["Trainer"].update(triggerPolicy={"condition": "inputs.artifacts['examples'] =="}),
            Moment.SILENT, "found the end", id="condition that does not parse",
        ),
        pytest.param(
            lambda d: _tasks(d)["Trainer"].update(triggerPolicy={"condition": "inputs.artifacts['model'] == 1"}),
            Moment.SILENT, "names 'model', which is no input", id="condition on something else",
        ),
        pytest.param(
            lambda d: d["root"].pop("inputDefinitions"), Moment.SILENT, "does not receive", id="undefined parameter"
        ),
        pytest.param(
            lambda d: _tasks(d)["ExampleGen"].pop("inputs"),
            Moment.SILENT, "neither a value nor a default", id="no value",
        ),
        pytest.param(
            lambda d: _executors(d)["schema-importer_executor"]["importer"].update(artifactUri={"constant": "/schema"}),
            Moment.SILENT, "importers take gs://", id="importer of a local path",
        ),
    ],
)  # fmt: skip
def test_faults_of_the_pipeline(
    change: Callable[[Document], None], moment: Moment, message: str, pipeline_document: Document
) -> None:
    change(pipeline_document)
    found = findings(_text(pipeline_document))
    assert [finding.moment for finding in found] == [moment]
    assert message in found[0].message


def _settings(document: Document) -> Document:
    return document["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.mark.parametrize(
    ("change", "moment", "message"),
    [
        pytest.param(
            lambda d: d["platforms"]["kubernetes"].update(deploymentSpecs={}),
            Moment.SILENT, "unknown field 'deploymentSpecs'", id="misspelt top level",
        ),
        pytest.param(
            lambda d: d["platforms"].update(k8s=d["platforms"].pop("kubernetes")),
            Moment.SILENT, "no 'kubernetes'", id="no kubernetes",
        ),
        pytest.param(
            lambda d: _settings(d).update(Trainer=_settings(d).pop("Trainer_executor")),
            Moment.SILENT, "the executor 'Trainer', which does not exist", id="component instead of executor",
        ),
        pytest.param(
            lambda d: _settings(d)["Trainer_executor"].update(nodeSelectors={}),
            Moment.RUN, "unknown field 'nodeSelectors'", id="misspelt setting",
        ),
        pytest.param(
            lambda d: _settings(d)["Trainer_executor"]["tolerations"][0].update(effects="NoSchedule"),
            Moment.RUN, "unknown field 'effects'", id="misspelt toleration",
        ),
        pytest.param(
            lambda d: _settings(d)["Trainer_executor"].update(tolerations={"key": "gpu"}),
            Moment.RUN, "expected a list", id="mapping for a list",
        ),
        pytest.param(
            lambda d: _settings(d)["Trainer_executor"]["nodeSelector"]["labels"].update(gpu=True),
            Moment.RUN, "expected str", id="label that YAML reads as a truth value",
        ),
        pytest.param(
            lambda d: _settings(d)["Trainer_executor"].update(imagePullPolicy="always"),
            Moment.RUN, "expected one of Always, Never, IfNotPresent", id="unknown pull policy",
        ),
    ],
)  # fmt: skip
def test_faults_of_the_platform_document(
    change: Callable[[Document], None],
    moment: Moment,
    message: str,
    pipeline_document: Document,
    platform_document: Document,
) -> None:
    change(platform_document)
    found = findings(_text(pipeline_document, platform_document))
    assert [finding.moment for finding in found] == [moment]
    assert message in found[0].message


def test_names_of_the_proto_file_are_taken(pipeline_document: Document, platform_document: Document) -> None:
    settings = _settings(platform_document)["Trainer_executor"]
    settings["pvc_mount"] = [{"constant": "ner-data", "mount_path": "/data"}]
    assert findings(_text(pipeline_document, platform_document)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "no pipelineInfo", id="empty"),
        pytest.param("a: [", "not YAML", id="no YAML"),
        pytest.param("- a\n", "not a mapping", id="a list"),
        pytest.param(json.dumps({"pipelineSpec": {}, "displayName": "x"}), "PipelineJob", id="PipelineJob as JSON"),
        pytest.param("pipelineInfo: {}\n---\npipelineInfo: {}\n", "found 2 and 0", id="two pipelines"),
    ],
)
def test_texts_that_are_refused_at_once(text: str, message: str) -> None:
    found = findings(text)
    assert [finding.moment for finding in found] == [Moment.UPLOAD]
    assert message in found[0].message


def test_the_error_lists_every_finding(pipeline_document: Document) -> None:
    pipeline_document["schemaVersion"] = "2.0.0"
    _executors(pipeline_document)["Trainer_executor"]["container"].pop("image")
    with pytest.raises(AcceptanceError, match=r"(?s)only 2\.1\.0.*no image"):
        parse_pipeline(_text(pipeline_document))


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        pytest.param("inputs.artifacts['_Evaluator.blessing'].artifacts[0].metadata['blessed'] == 1.0",
                     {"_Evaluator.blessing"}, id="what TFX writes"),
        pytest.param('inputs.parameter_values["epochs"] > 3 && !(inputs.parameter_values["x"] != "a")',
                     {"epochs", "x"}, id="parameters"),
        pytest.param("1 < 2 ? true : int('3') == 3", set(), id="choice and call"),
    ],
)  # fmt: skip
def test_conditions(expression: str, names: set[str]) -> None:
    assert input_names(expression) == names


@pytest.mark.parametrize(
    "expression", ["", "1 ==", "(1", "a == 1", "inputs.", "inputs.artifact['x'].uri", "1 = 1", "'open", "1 2", "f(1"]
)
def test_conditions_that_do_not_parse(expression: str) -> None:
    with pytest.raises(CelError):
        input_names(expression)
