"""The flags with which TensorFlow Serving serves our models outside a container: those of the deployment files."""

from __future__ import annotations

from pathlib import Path

CONFIGURATION = Path(__file__).parent / "config"

# More than (num_batch_threads + max_enqueued_batches) x max_batch_size of the batching file, or batches never fill:
# a request that waits in a batch holds a thread. The numbers of the Kubernetes components.
_GRPC_THREADS = {"cpu": 320, "gpu": 1100}


def production_flags(*, gpu: bool = False, rest: bool = False) -> tuple[str, ...]:
    """Returns batching, its threads and, on the REST port, metrics, as flags of tensorflow_model_server.

    Args:
        gpu: take the batching parameters of a GPU.
        rest: the REST API is on; metrics are served on its port only.

    Example:
        >>> production_flags()[0]
        '--enable_batching=true'
    """
    device = "gpu" if gpu else "cpu"
    return (
        "--enable_batching=true",
        f"--batching_parameters_file={CONFIGURATION / f'batching_{device}.pbtxt'}",
        f"--grpc_max_threads={_GRPC_THREADS[device]}",
        *((f"--monitoring_config_file={CONFIGURATION / 'monitoring.pbtxt'}",) if rest else ()),
    )
