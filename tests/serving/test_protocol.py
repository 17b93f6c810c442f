"""The light protocol is, on the wire, TensorFlow Serving's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from serving.protocol import fusion_ner_protocol_pb2 as protocol
from serving.protocol import generate

ROOT = Path(__file__).resolve().parent.parent.parent

REQUEST = """
model_spec { name: "ner" version { value: 3 } signature_name: "serving_default" }
inputs { key: "text" value { dtype: DT_STRING tensor_shape { dim { size: 2 } } string_val: "明" string_val: "\\377" } }
inputs { key: "ids" value { dtype: DT_INT32 tensor_shape { dim { size: -1 name: "x" } } int_val: -5 int_val: 7 } }
inputs { key: "raw" value { dtype: DT_FLOAT tensor_shape { unknown_rank: true } tensor_content: "\\001\\002" } }
output_filter: "entity_count"
"""
LABELLED = 'model_spec { name: "ner" version_label: "stable" } '
VERSION_ZERO = 'model_spec { name: "ner" version { } } '
RESPONSE = """
model_spec { name: "ner" version { value: 9223372036854775807 } }
outputs { key: "a" value { dtype: DT_FLOAT tensor_shape { } float_val: 1.5 } }
outputs { key: "b" value { dtype: DT_DOUBLE tensor_shape { } double_val: 1e300 } }
outputs { key: "c" value { dtype: DT_INT64 tensor_shape { } int64_val: -9223372036854775808 } }
outputs { key: "d" value { dtype: DT_BOOL tensor_shape { } bool_val: true } }
outputs { key: "e" value { dtype: DT_UINT64 tensor_shape { } uint64_val: 18446744073709551615 } }
outputs { key: "f" value { dtype: DT_UINT32 tensor_shape { } uint32_val: 4294967295 } }
"""
STATUS = """
model_version_status { version: 2 state: END status { error_code: DATA_LOSS error_message: "broken" } }
model_version_status { version: 1 state: AVAILABLE status { } }
"""
# The enumeration of error codes is a plain number in the light protocol: the same on the wire.
LIGHT_STATUS = STATUS.replace("DATA_LOSS", "15")
SIGNATURES = """
signature_def { key: "serving_default" value {
  inputs { key: "text" value { name: "text:0" dtype: DT_STRING tensor_shape { dim { size: -1 } } } }
  outputs { key: "n" value { name: "n:0" dtype: DT_INT32 tensor_shape { dim { size: -1 } } } }
  method_name: "tensorflow/serving/predict" } }
"""
# Strings that TensorFlow Serving also sends where they are no UTF-8, which Python refuses to read as a string.
TEXT_AS_BYTES = {"fusion_ner.protocol.StatusProto.error_message"}


@pytest.mark.parametrize(
    ("light", "theirs", "text", "light_text"),
    [
        pytest.param(protocol.PredictRequest, predict_pb2.PredictRequest, REQUEST, REQUEST, id="predict request"),
        pytest.param(protocol.PredictRequest, predict_pb2.PredictRequest, LABELLED, LABELLED, id="label"),
        pytest.param(protocol.PredictRequest, predict_pb2.PredictRequest, VERSION_ZERO, VERSION_ZERO, id="version 0"),
        pytest.param(protocol.PredictResponse, predict_pb2.PredictResponse, RESPONSE, RESPONSE, id="predict response"),
        pytest.param(
            protocol.GetModelStatusResponse,
            get_model_status_pb2.GetModelStatusResponse,
            STATUS,
            LIGHT_STATUS,
            id="status response",
        ),
        pytest.param(
            protocol.SignatureDefMap, get_model_metadata_pb2.SignatureDefMap, SIGNATURES, SIGNATURES, id="signatures"
        ),
        pytest.param(
            protocol.GetModelMetadataRequest,
            get_model_metadata_pb2.GetModelMetadataRequest,
            'model_spec { name: "ner" } metadata_field: "signature_def"',
            'model_spec { name: "ner" } metadata_field: "signature_def"',
            id="metadata request",
        ),
    ],
)
def test_both_read_what_the_other_wrote(light: Any, theirs: Any, text: str, light_text: str) -> None:
    ours, original = text_format.Parse(light_text, light()), text_format.Parse(text, theirs())

    assert light.FromString(original.SerializeToString()) == ours
    assert theirs.FromString(ours.SerializeToString()) == original
    assert ours.SerializeToString(deterministic=True) == original.SerializeToString(deterministic=True)


def _differences(light: Any, theirs: Any, seen: set[str]) -> list[str]:
    if light.full_name in seen:
        return []
    seen.add(light.full_name)
    found = []
    for field in light.fields:
        original = theirs.fields_by_number.get(field.number)
        kinds = {field.type, original.type} if original else set()
        # Both pairs are the same bytes.
        alike = [{field.TYPE_ENUM, field.TYPE_INT32}]
        if field.full_name in TEXT_AS_BYTES:
            alike.append({field.TYPE_STRING, field.TYPE_BYTES})
        same_kind = len(kinds) == 1 or kinds in alike
        if not original or not same_kind or (field.name, field.label) != (original.name, original.label):
            found.append(field.full_name)
        elif field.message_type and not field.message_type.full_name.startswith("google.protobuf"):
            found += _differences(field.message_type, original.message_type, seen)
    return found


@pytest.mark.parametrize(
    ("light", "theirs"),
    [
        pytest.param(protocol.PredictRequest, predict_pb2.PredictRequest, id="PredictRequest"),
        pytest.param(protocol.PredictResponse, predict_pb2.PredictResponse, id="PredictResponse"),
        pytest.param(
            protocol.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest, id="GetModelStatusRequest"
        ),
        pytest.param(
            protocol.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse, id="GetModelStatusResponse"
        ),
        pytest.param(
            protocol.GetModelMetadataResponse,
            get_model_metadata_pb2.GetModelMetadataResponse,
            id="GetModelMetadataResponse",
        ),
        pytest.param(protocol.SignatureDefMap, get_model_metadata_pb2.SignatureDefMap, id="SignatureDefMap"),
    ],
)
def test_fields_have_the_numbers_and_types_of_theirs(light: Any, theirs: Any) -> None:
    assert _differences(light.DESCRIPTOR, theirs.DESCRIPTOR, set()) == []


def test_data_types_have_the_numbers_of_theirs() -> None:
    from tensorflow.core.framework import types_pb2

    for name, number in protocol.DataType.items():
        assert types_pb2.DataType.Value(name) == number


def test_generated_module_is_that_of_the_proto_file(tmp_path: Path) -> None:
    assert generate.main(tmp_path) == 0

    committed = Path(protocol.__file__).read_text(encoding="utf-8")
    assert (tmp_path / Path(protocol.__file__).name).read_text(encoding="utf-8") == committed


def test_client_imports_neither_tensorflow_nor_numpy() -> None:
    code = (
        "import sys, serving.client, serving.model_server\n"
        "heavy = {'tensorflow', 'tensorflow_serving', 'numpy', 'keras', 'tfx', 'apache_beam'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
