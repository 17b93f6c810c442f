"""Tags texts through a model server: `python examples/clients/python_client.py localhost:8500 news 小明住在北京。`

It needs the packages `serving` and `components` of this project, grpcio and protobuf; no TensorFlow.
"""

from __future__ import annotations

import sys

from serving.client import Client, ServingError


def main(target: str, model_name: str, *texts: str) -> int:
    """Prints one line an entity: start, end, type, text and score."""
    with Client(target, model_name=model_name) as client:
        try:
            for tagged in client.tag(texts):
                for entity in tagged.entities:
                    print(entity.start, entity.end, entity.type, entity.text, f"{entity.score:.3f}", sep="\t")
        except ServingError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
