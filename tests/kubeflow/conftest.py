"""A small compiled pipeline in the form that TFX writes, for tests that change one thing in it."""

from __future__ import annotations

from typing import Any

import pytest

EXAMPLES = "title: tfx.Examples\ntype: object\n"
SCHEMA = "title: tfx.Schema\ntype: object\n"


def _container(image: str = "registry.example/fusion-ner:1") -> dict[str, Any]:
    return {
        "container": {
            "image": image,
            "command": ["python", "-m", "kubeflow.entrypoint"],
            "args": ["--json_serialized_invocation_args", "{{$}}"],
        }
    }


@pytest.fixture
def pipeline_document() -> dict[str, Any]:
    """A pipeline of an ExampleGen, a Trainer and an Importer that the backend accepts."""
    return {
        "pipelineInfo": {"name": "tiny-ner"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "tfx-1.16.0",
        "root": {
            "inputDefinitions": {"parameters": {"data": {"parameterType": "STRING", "defaultValue": "/data"}}},
            "dag": {
                "tasks": {
                    "ExampleGen": {
                        "taskInfo": {"name": "ExampleGen"},
                        "componentRef": {"name": "ExampleGen"},
                        "inputs": {"parameters": {"input_base": {"componentInputParameter": "data"}}},
                    },
                    "Trainer": {
                        "taskInfo": {"name": "Trainer"},
                        "componentRef": {"name": "Trainer"},
                        "dependentTasks": ["ExampleGen"],
                        "inputs": {
                            "artifacts": {
                                "examples": {
                                    "taskOutputArtifact": {
                                        "producerTask": "ExampleGen",
                                        "outputArtifactKey": "examples",
                                    }
                                }
                            }
                        },
                    },
                    "schema-importer": {
                        "taskInfo": {"name": "schema-importer"},
                        "componentRef": {"name": "schema-importer"},
                    },
                }
            },
        },
        "components": {
            "ExampleGen": {
                "executorLabel": "ExampleGen_executor",
                "inputDefinitions": {"parameters": {"input_base": {"parameterType": "STRING"}}},
                "outputDefinitions": {"artifacts": {"examples": {"artifactType": {"instanceSchema": EXAMPLES}}}},
            },
            "Trainer": {
                "executorLabel": "Trainer_executor",
                "inputDefinitions": {"artifacts": {"examples": {"artifactType": {"instanceSchema": EXAMPLES}}}},
            },
            "schema-importer": {
                "executorLabel": "schema-importer_executor",
                "outputDefinitions": {
                    "artifacts": {"result": {"artifactType": {"instanceSchema": "title: tfx.Schema\n"}}}
                },
            },
        },
        "deploymentSpec": {
            "executors": {
                "ExampleGen_executor": _container(),
                "Trainer_executor": _container(),
                "schema-importer_executor": {
                    "importer": {
                        "artifactUri": {"constant": "s3://bucket/schema"},
                        "typeSchema": {"instanceSchema": SCHEMA},
                    }
                },
            }
        },
    }


@pytest.fixture
def platform_document() -> dict[str, Any]:
    """A platform document for the Trainer of `pipeline_document`."""
    return {
        "platforms": {
            "kubernetes": {
                "deploymentSpec": {
                    "executors": {
                        "Trainer_executor": {
                            "nodeSelector": {"labels": {"accelerator": "a100"}},
                            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                            "pvcMount": [{"constant": "ner-data", "mountPath": "/data"}],
                        }
                    }
                }
            }
        }
    }
