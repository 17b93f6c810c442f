"""The ops TF Serving knows: TensorFlow's own, and those of the TF Text it is built with.

`tf_serving_ops.json` lists the ops of TF Text 2.12.1, which TF Serving 2.16.1 to 2.19.1 link (workspace.bzl,
`org_tensorflow_text`), with inputs, attributes and outputs: the difference that `import tensorflow_text` makes to the
op registry in tensorflow 2.12.1 with tensorflow-text 2.12.1. An op outside the list shows only at the first request, as
NOT_FOUND `Op type not registered`, so the export checks.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2


class ServingOpsError(ValueError):
    """Raised when a model has an op or an attribute that TF Serving lacks; the message names it and where it stands."""


def check_serving_ops(directory: str | os.PathLike[str]) -> None:
    """Checks every op of a SavedModel.

    Raises:
        ServingOpsError: naming each unknown op or attribute and the function that holds it.
    """
    saved_model = saved_model_pb2.SavedModel()
    with tf.io.gfile.GFile(os.path.join(os.fspath(directory), "saved_model.pb"), "rb") as file:
        saved_model.ParseFromString(file.read())
    problems = sorted(set(unknown_ops(saved_model)))
    if problems:
        raise ServingOpsError(
            f"{directory}: TF Serving cannot run this model: {'; '.join(problems)}. "
            "Use ops of TensorFlow, or those listed in tf_serving_ops.json"
        )


def unknown_ops(saved_model: saved_model_pb2.SavedModel) -> Iterator[str]:
    """Yields a description of each op or attribute in the model that TF Serving lacks."""
    text_ops = _text_ops()
    for meta_graph in saved_model.meta_graphs:
        graph = meta_graph.graph_def
        origins = [("the graph", graph.node)]
        origins += [
            (f"the function {function.signature.name}", function.node_def) for function in graph.library.function
        ]
        for origin, nodes in origins:
            for node in nodes:
                # tf.raw_ops is a generated module of TensorFlow's own ops: other libraries add nothing to it.
                if hasattr(tf.raw_ops, node.op):
                    continue
                if node.op not in text_ops:
                    yield f"the op {node.op} in {origin}"
                    continue
                known = {attribute["name"] for attribute in text_ops[node.op]["attrs"]}
                for attribute in sorted(node.attr):
                    if not attribute.startswith("_") and attribute not in known:
                        yield f"the attribute {attribute} of the op {node.op} in {origin}"


@functools.cache
def _text_ops() -> Mapping[str, Any]:
    resource = importlib.resources.files("components.trainer").joinpath("tf_serving_ops.json")
    return json.loads(resource.read_text(encoding="utf-8"))
