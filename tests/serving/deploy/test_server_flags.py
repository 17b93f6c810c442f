"""The check of command lines against the flags of tensorflow_model_server 2.16.1."""

from __future__ import annotations

import pytest

from serving.deploy.server_flags import FLAGS, flag_problems, flag_values
from serving.embedded.flags import REFUSED, Flags

GOOD = ["--port=8500", "--rest_api_port=8501", "--model_name=ner", "--model_base_path=/models/ner"]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param([], id="plain"),
        pytest.param(["--enable_batching", "--batching_parameters_file=/b"], id="boolean-without-value"),
        pytest.param(["--per_process_gpu_memory_fraction=0.5"], id="fraction"),
        pytest.param(["--grpc_channel_arguments=a=1,b=2"], id="channel-arguments"),
        pytest.param(["--model_base_path=gs://bucket/ner"], id="uri"),
        pytest.param(["--load_retry_interval_micros=60000000"], id="large-number"),
    ],
)
def test_good_arguments(more: list[str]) -> None:
    assert flag_problems(GOOD + more) == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param("--enable_baching=true", "--enable_baching=true: no flag of", id="unknown"),
        pytest.param("stray", "stray: no flag of", id="no-flag"),
        pytest.param("--port=abc", "--port: expected a whole number; received 'abc'", id="no-number"),
        pytest.param("--port", "--port: expected a whole number; received ''", id="number-left-out"),
        pytest.param(
            "--enable_batching=yes", "--enable_batching: expected true or false; received 'yes'", id="boolean"
        ),
        pytest.param("--rest_api_port=8500", "--rest_api_port: expected another port", id="same-ports"),
        pytest.param("--port=0", "--port=0: needs --grpc_socket_path", id="no-grpc"),
        pytest.param("--model_base_path=ner", "expected an absolute path or a URI; received 'ner'", id="relative"),
        pytest.param("--model_base_path=", "--model_config_file or --model_base_path", id="no-model"),
        pytest.param("--model_config_file=/m", "--model_name: ignored beside --model_config_file", id="two-models"),
        pytest.param("--batching_parameters_file=/b", "needs --enable_batching", id="batching-file-alone"),
        pytest.param("--grpc_channel_arguments=a=1,b", "expected key=value items; received 'b'", id="channel-argument"),
    ],
)
def test_bad_arguments(more: str, expected: str) -> None:
    assert [problem for problem in flag_problems([*GOOD, more]) if expected in problem]


def test_all_three_kinds_of_parallelism() -> None:
    flags = [f"--tensorflow_{kind}_parallelism=4" for kind in ("session", "intra_op", "inter_op")]
    assert flag_problems(GOOD + flags) == [
        "--tensorflow_session_parallelism: expected it alone, or the intra_op and inter_op flags"
    ]


def test_monitoring_needs_the_rest_port() -> None:
    arguments = ["--model_base_path=/models/ner", "--monitoring_config_file=/m"]
    assert flag_problems(arguments) == ["--monitoring_config_file: needs --rest_api_port, which serves the metrics"]


def test_later_values_win() -> None:
    assert flag_values(["--port=1", "--enable_batching", "--port=2"]) == {"port": "2", "enable_batching": "true"}


def test_the_embedded_server_knows_no_other_flags() -> None:
    assert {*Flags.__dataclass_fields__, *REFUSED} <= FLAGS.keys()
