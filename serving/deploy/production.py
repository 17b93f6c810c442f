"""The flags with which TensorFlow Serving serves our models outside a container: those of the deployment files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "gpu"]

CONFIGURATION = Path(__file__).parent / "config"

# More than (num_batch_threads + max_enqueued_batches) x max_batch_size of the batching file, or batches never fill:
# a request that waits in a batch holds a thread. The numbers of the Kubernetes components.
_GRPC_THREADS = {"cpu": 320, "gpu": 1100}


def production_flags(device: Device = "cpu", *, batching: bool = True, rest: bool = False) -> tuple[str, ...]:
    """Returns batching, its threads and, on the REST port, metrics, as flags of tensorflow_model_server.

    Args:
        device: whose batching parameters to take.
        batching: whether requests are merged; without it, requests to `tokens` of different lengths may come at once.
        rest: the REST API is on; metrics are served on its port only.

    Example:
        >>> production_flags()[0]
        '--enable_batching=true'
    """
    return (
        *(("--enable_batching=true", f"--batching_parameters_file={batching_file(device)}") if batching else ()),
        f"--grpc_max_threads={_GRPC_THREADS[device]}",
        *((f"--monitoring_config_file={CONFIGURATION / 'monitoring.pbtxt'}",) if rest else ()),
    )


def batching_file(device: Device) -> Path:
    """Returns the file of BatchingParameters for a device."""
    return CONFIGURATION / f"batching_{device}.pbtxt"


def max_batch_size(device: Device) -> int:
    """Returns the texts of the largest request that TensorFlow Serving takes with the batching file of a device.

    Example:
        >>> max_batch_size("cpu")
        64
    """
    found = re.search(r"^max_batch_size \{ value: (\d+) \}$", batching_file(device).read_text("utf-8"), re.MULTILINE)
    assert found is not None, f"{batching_file(device)} has no max_batch_size"
    return int(found[1])
