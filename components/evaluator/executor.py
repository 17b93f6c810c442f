"""Executor of the Evaluator: TFX's, which then proves that no example was left out and says why a model was refused."""

from __future__ import annotations

from typing import Any

import tensorflow_text  # noqa: F401 - registers the ops of the tokenizer inside the model
from absl import logging
from tfx import types
from tfx.components.evaluator import executor as tfx_evaluator
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import json_utils

from components.evaluator.results import count_examples, read_blessing, read_report

# Read by the pusher, which says why it refuses.
BLESSING_MESSAGE = "blessing_message"


class Executor(tfx_evaluator.Executor):
    """Evaluates, then compares the number of evaluated texts with the number of examples in the split."""

    def Do(  # noqa: N802 - TFX calls it so
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the evaluation.

        Raises:
            EvaluationError: the split is empty, or examples were left out of the evaluation.
        """
        splits = json_utils.loads(exec_properties[standard_component_specs.EXAMPLE_SPLITS_KEY])
        examples = input_dict[standard_component_specs.EXAMPLES_KEY]
        expected = sum(
            count_examples(folder, split)
            for split in splits
            for folder in artifact_utils.get_split_uris(examples, split)
        )
        super().Do(input_dict, output_dict, exec_properties)
        evaluation_uri = artifact_utils.get_single_uri(output_dict[standard_component_specs.EVALUATION_KEY])
        report = read_report(evaluation_uri, expected_texts=expected)
        blessing_artifact = artifact_utils.get_single_instance(output_dict[standard_component_specs.BLESSING_KEY])
        blessing = read_blessing(blessing_artifact.uri, evaluation_uri)
        message = "all gates passed" if blessing.blessed else "; ".join(map(str, blessing.failures))
        blessing_artifact.set_string_custom_property(BLESSING_MESSAGE, message)
        logging.info("Evaluated %d texts: micro %s; %s", report.texts, report.micro.scores(), message)
