"""The flags of `fusion-ner serve` are those of the deployment, and TensorFlow Serving's."""

from pathlib import Path

import pytest
import yaml

from serving.deploy.production import production_flags
from serving.deploy.server_flags import flag_problems, flag_values

KUBERNETES = Path(__file__).parents[3] / "serving" / "deploy" / "kubernetes" / "components"
OWN_FLAGS = ["--port=8500", "--rest_api_port=8501", "--model_name=ner", "--model_base_path=/models/ner"]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("rest", [False, True], ids=["grpc only", "rest"])
def test_the_flags_are_tensorflow_servings_and_their_files_exist(device, rest):
    flags = production_flags(device, rest=rest)
    assert not flag_problems([*OWN_FLAGS, *flags])
    files = [value for name, value in flag_values(flags).items() if name.endswith("_file")]
    assert len(files) == 1 + rest
    assert all(Path(file).is_file() for file in files)


def test_without_batching_no_flag_is_left_that_needs_it():
    flags = production_flags(batching=False, rest=True)
    assert not flag_problems([*OWN_FLAGS, *flags])
    assert flag_values(flags).keys() == {"grpc_max_threads", "monitoring_config_file"}


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_threads_are_those_of_the_kubernetes_component(device):
    text = (KUBERNETES / device / "kustomization.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)
    threads = flag_values(production_flags(device))["grpc_max_threads"]
    assert f"--grpc_max_threads={threads}" in text
