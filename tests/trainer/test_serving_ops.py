"""The check of ops at export: an op that the server lacks stops it, whatever is registered in this process."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tensorflow as tf
import tensorflow_text

from components import features
from components.trainer.servable import export
from components.trainer.serving_ops import ServingOpsError


class NewerServable(tf.Module):
    """A servable that uses an op of tensorflow-text 2.16, which TF Serving's 2.12.1 lacks."""

    def __init__(self) -> None:
        super().__init__()
        self._scale = tf.Variable(1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=features.TEXT)], autograph=False)
    def tag_texts(self, text):
        lengths = tf.RaggedTensor.from_row_lengths(tf.strings.length(text) * self._scale, tf.ones_like(text, tf.int64))
        return {features.ENTITY_COUNT: tensorflow_text.RoundRobinTrimmer(3).trim([lengths])[0].values}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name=features.TOKEN_IDS)], autograph=False)
    def tag_tokens(self, token_ids):
        return {features.LOGITS: token_ids}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=features.EXAMPLES)], autograph=False)
    def compare_examples(self, examples):
        return {features.GOLD_ENTITIES: examples}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=features.TEXT)], autograph=False)
    def explain_texts(self, text):
        return {features.TOKEN_TEXT: text}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """The folder of a model whose export was refused, and the reason."""
    folder = tmp_path_factory.mktemp("newer")
    with pytest.raises(ServingOpsError) as raised:
        export(NewerServable(), folder)
    return folder, str(raised.value)


def test_the_export_names_the_op_and_the_function_that_holds_it(refused):
    folder, message = refused

    assert message.startswith(f"{folder}: TF Serving cannot run this model: ")
    assert "the op TFText>RoundRobinTrim in the function __inference_tag_texts_" in message


@pytest.mark.parametrize("first", ["import tensorflow", "import tensorflow_text"])
def test_the_verdict_does_not_depend_on_what_the_process_has_loaded(refused, first):
    folder, message = refused
    program = (
        f"{first}\n"
        "import sys\n"
        "from components.trainer.serving_ops import ServingOpsError, check_serving_ops\n"
        "try:\n"
        "    check_serving_ops(sys.argv[1])\n"
        "except ServingOpsError as error:\n"
        "    print(error)\n"
        "assert ('tensorflow_text' in sys.modules) == ('_text' in sys.argv[2])\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, str(folder), first], capture_output=True, text=True, check=True
    )

    assert process.stdout.strip().splitlines()[-1] == message
