"""Generates fusion_ner_protocol_pb2.py from the .proto beside it: `python serving/protocol/generate.py` (needs grpcio-tools)."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent


def main(out_folder: Path = HERE) -> int:
    """Writes fusion_ner_protocol_pb2.py into `out_folder`; returns protoc's exit status."""
    well_known = str(resources.files("grpc_tools") / "_proto")
    arguments = [
        "protoc",
        f"-I{HERE}",
        f"-I{well_known}",
        f"--python_out={out_folder}",
        str(HERE / "fusion_ner_protocol.proto"),
    ]
    return protoc.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
