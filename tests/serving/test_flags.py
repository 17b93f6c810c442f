from __future__ import annotations

import pytest

from serving.embedded.flags import REFUSED, FlagError, Flags, parse_flags


@pytest.mark.parametrize(
    ("words", "flags", "unknown"),
    [
        pytest.param([], Flags(), [], id="defaults"),
        pytest.param(["--port=9000", "--model_name=ner"], Flags(port=9000, model_name="ner"), [], id="equals sign"),
        pytest.param(["--port", "9000"], Flags(port=9000), [], id="value in a word of its own"),
        pytest.param(["--model_name="], Flags(model_name=""), [], id="empty value"),
        pytest.param(
            ["--enable_grpc_healthcheck_service"], Flags(enable_grpc_healthcheck_service=True), [], id="bare boolean"
        ),
        pytest.param(["--enable_model_warmup=false"], Flags(enable_model_warmup=False), [], id="boolean off"),
        pytest.param(["--no_such_flag=1", "stray"], Flags(), ["--no_such_flag=1", "stray"], id="unknown is passed on"),
        pytest.param(["--enable_batching=false", "--num_load_threads=0"], Flags(), [], id="refused flag, default"),
        pytest.param(["--enable_profiler=true"], Flags(), [], id="without effect"),
    ],
)
def test_parse_flags(words: list[str], flags: Flags, unknown: list[str]) -> None:
    assert parse_flags(words) == (flags, unknown)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_flags_that_belong_to_tensorflow_serving_are_refused(name: str) -> None:
    with pytest.raises(FlagError, match=f"--{name}: .*belongs? to TensorFlow Serving.*tensorflow_model_server"):
        parse_flags([f"--{name}=something"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--port=abc"], "Couldn't interpret value abc for flag port", id="no number"),
        pytest.param(["--enable_model_warmup=maybe"], "Couldn't interpret value maybe", id="no boolean"),
        pytest.param(["--port"], "--port: expected a value, as in --port=8500", id="no value"),
        pytest.param(["--port", "--model_name=x"], "--port: expected a value", id="no value before a flag"),
        pytest.param(["--enable_batching"], "batching requests belongs to TensorFlow Serving", id="bare refused flag"),
        pytest.param(
            ["--tensorflow_session_parallelism=2", "--tensorflow_intra_op_parallelism=1"],
            "not both",
            id="both ways to set threads",
        ),
    ],
)
def test_parse_flags_refuses(words: list[str], message: str) -> None:
    with pytest.raises(FlagError, match=message):
        parse_flags(words)
