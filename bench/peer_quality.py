"""The peer of `bench.quality`: transformers' BertForTokenClassification, fine-tuned on the same texts.

    .venv-peer/bin/python bench/peer_quality.py --texts FOLDER --encoder FOLDER --seed 1 --epochs 4 \
        --learning-rate 1e-4 --output predictions.json

Runs in a virtual environment of its own and imports nothing of this project. FOLDER holds train.jsonl, dev.jsonl and
test.jsonl of `bench.quality texts`. The recipe is the customary one: words are split at spaces, the first piece of a
word carries its tag and the others none, batches are padded to their longest, AdamW without decay of biases and
LayerNorm, linear warm-up and decay. With --label-all-pieces the other pieces of a word carry its tag too, as with
--label_all_tokens of transformers' run_ner.py and as in ours. The epoch with the best strict F1 on dev predicts the
test split; a word of which no piece is left is O. `bench.quality score` scores the entities that are written.
"""

import argparse
import copy
import json
import random
import re
import time
from pathlib import Path

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, get_linear_schedule_with_warmup

IGNORED = -100


def main() -> None:
    """Trains, predicts the test split and writes it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--batch-tokens", type=int, default=1024, help="tokens of a batch, on average (default: 1024)")
    parser.add_argument("--warmup", type=float, default=0.1)
    parser.add_argument("--label-all-pieces", action="store_true", help="train on every piece of a word, not the first")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    order = random.Random(arguments.seed)
    splits = {split: read_split(arguments.texts / f"{split}.jsonl") for split in ("train", "dev", "test")}
    types = sorted({entity[2] for text in splits["train"] for entity in text["entities"]})
    labels = ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]
    tokenizer = AutoTokenizer.from_pretrained(arguments.encoder)
    model = AutoModelForTokenClassification.from_pretrained(arguments.encoder, num_labels=len(labels))
    encoded = {
        split: [encode(text, tokenizer, labels, all_pieces=arguments.label_all_pieces) for text in texts]
        for split, texts in splits.items()
    }

    train = encoded["train"]
    batch_size = round(arguments.batch_tokens * len(train) / sum(len(text["input_ids"]) for text in train))
    steps = arguments.epochs * -(-len(train) // batch_size)
    decayed = [each for name, each in model.named_parameters() if not re.search(r"bias|LayerNorm", name)]
    others = [each for name, each in model.named_parameters() if re.search(r"bias|LayerNorm", name)]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=arguments.learning_rate,
    )
    schedule = get_linear_schedule_with_warmup(optimizer, round(arguments.warmup * steps), steps)
    started, processor = time.monotonic(), time.process_time()
    dev_f1, best = [], None
    for epoch in range(arguments.epochs):
        model.train()
        order.shuffle(train)
        for first in range(0, len(train), batch_size):
            loss = model(**padded(train[first : first + batch_size], tokenizer)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        dev_f1.append(f1(splits["dev"], predict(model, tokenizer, splits["dev"], encoded["dev"], labels)))
        print(f"epoch {epoch + 1}: dev F1 {dev_f1[-1]:.4f}, {time.monotonic() - started:.0f} s", flush=True)
        if dev_f1[-1] == max(dev_f1) and dev_f1.count(dev_f1[-1]) == 1:
            best = copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    predictions = predict(model, tokenizer, splits["test"], encoded["test"], labels)
    record = {
        "label": "peer, all pieces" if arguments.label_all_pieces else "peer",
        "seed": arguments.seed,
        "settings": {
            "seed": arguments.seed,
            "epochs": arguments.epochs,
            "learning_rate": arguments.learning_rate,
            "batch_size": batch_size,
            "label_all_pieces": arguments.label_all_pieces,
        },
        "dev_f1": dev_f1,
        "best_epoch": dev_f1.index(max(dev_f1)) + 1,
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "predictions": [
            {"id": text["id"], "entities": entities} for text, entities in zip(splits["test"], predictions, strict=True)
        ],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record), encoding="utf-8")


def read_split(path: Path) -> list[dict]:
    """Returns the texts of a file, each with its words: (start, end) in code points."""
    texts = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for text in texts:
        text["words"] = [match.span() for match in re.finditer(r"[^ ]+", text["text"])]
    return texts


def encode(text: dict, tokenizer, labels: list[str], *, all_pieces: bool) -> dict:
    """Returns the pieces of a text, the label of each and the word that each begins, or None."""
    tag_of_start = {}
    for start, end, name in text["entities"]:
        inside = [word for word in text["words"] if word[0] < end and word[1] > start]
        for number, word in enumerate(inside):
            tag_of_start[word[0]] = ("I-" if number else "B-") + name
    words = [text["text"][start:end] for start, end in text["words"]]
    encoding = tokenizer(words, is_split_into_words=True)
    assert len(encoding["input_ids"]) <= 512, "a text longer than the encoder's positions"
    begun, previous = [], None
    for word in encoding.word_ids():
        begun.append(word if word is not None and word != previous else None)
        previous = word
    # A type that the training texts do not have cannot be learned.
    known = {name: number for number, name in enumerate(labels)}
    tags = []
    for word, first in zip(encoding.word_ids(), begun, strict=True):
        tag = "O" if word is None else tag_of_start.get(text["words"][word][0], "O")
        if word is None or (first is None and not all_pieces):
            tags.append(IGNORED)
        else:
            tags.append(known.get(tag if first is not None else tag.replace("B-", "I-"), 0))
    return {"input_ids": encoding["input_ids"], "labels": tags, "begun": begun}


def padded(texts: list[dict], tokenizer) -> dict:
    """Returns a batch padded to its longest text."""
    longest = max(len(text["input_ids"]) for text in texts)

    def rows(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([text[name] + [filler] * (longest - len(text[name])) for text in texts])

    ids = rows("input_ids", tokenizer.pad_token_id)
    mask = torch.tensor([[1] * len(text["input_ids"]) + [0] * (longest - len(text["input_ids"])) for text in texts])
    return {"input_ids": ids, "attention_mask": mask, "labels": rows("labels", IGNORED)}


@torch.inference_mode()
def predict(model, tokenizer, texts: list[dict], encoded: list[dict], labels: list[str]) -> list[list]:
    """Returns the entities [start, end, type] of each text; an I- without its B- begins an entity."""
    model.eval()
    entities: list = [None] * len(texts)
    by_length = sorted(range(len(texts)), key=lambda number: len(encoded[number]["input_ids"]))
    for first in range(0, len(texts), 32):
        numbers = by_length[first : first + 32]
        batch = padded([encoded[number] for number in numbers], tokenizer)
        best = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1).tolist()
        for number, row in zip(numbers, best, strict=True):
            tags = ["O"] * len(texts[number]["words"])
            for piece, word in enumerate(encoded[number]["begun"]):
                if word is not None:
                    tags[word] = labels[row[piece]]
            entities[number] = spans(texts[number]["words"], tags)
    return entities


def spans(words: list[tuple], tags: list[str]) -> list[list]:
    """Joins tagged words to entities."""
    found, open_type = [], None
    for (start, end), tag in zip(words, tags, strict=True):
        prefix, _, name = tag.partition("-")
        if prefix == "I" and name == open_type:
            found[-1][1] = end
        elif prefix != "O":
            found.append([start, end, name])
        open_type = name if prefix != "O" else None
    return found


def f1(texts: list[dict], predictions: list[list]) -> float:
    """Returns the strict micro F1."""
    gold = {(number, *entity) for number, text in enumerate(texts) for entity in text["entities"]}
    found = {(number, *entity) for number, entities in enumerate(predictions) for entity in entities}
    return 2 * len(gold & found) / max(len(gold) + len(found), 1)


if __name__ == "__main__":
    main()
