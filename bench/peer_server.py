"""The peer: a transformers token-classification pipeline behind FastAPI and uvicorn, as its documentation shows it.

    .venv-peer/bin/python bench/peer_server.py --encoder FOLDER --labels 13 --port 8600

Runs in a virtual environment of its own (`make bench` makes it) and imports nothing of this project. The encoder has
its own weights. The classifier on top has as many labels as our model, and a bias that makes it answer O: the work of
the network is the same, and grouping entities, which is Python here, costs next to nothing.
"""

import argparse

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline


class Text(BaseModel):
    """A request."""

    text: str


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--labels", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; 0: it decides")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    names = ["O", *(f"B-T{number}" for number in range(1, arguments.labels))]
    model = AutoModelForTokenClassification.from_pretrained(
        arguments.encoder, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}
    )
    with torch.no_grad():
        model.classifier.bias[0] += 100
    tagger = pipeline(
        "token-classification",
        model=model,
        tokenizer=AutoTokenizer.from_pretrained(arguments.encoder),
        aggregation_strategy="simple",
        device="cpu",
    )
    application = FastAPI()

    @application.post("/tag")
    def tag(text: Text) -> list:
        entities = tagger(text.text)
        return [{**entity, "score": float(entity["score"])} for entity in entities]

    uvicorn.run(application, host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
