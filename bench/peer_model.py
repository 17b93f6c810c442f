"""The peer of `bench.model_speed`: PyTorch transformers' BertForTokenClassification with random weights.

Runs in a virtual environment of its own and imports nothing of this project. One JSON request a line on standard input,
one JSON answer a line on standard output:

    {"do": "start", "config": {..BertConfig..}, "tag_count": 11, "device": "cpu"} -> {"torch": "2.5.1", ..}
    {"do": "threads", "count": 2}                                                 -> {}
    {"do": "tag", "lengths": [..], "precision": "float32"}                        -> {"seconds": 1.5}
    {"do": "train", "lengths": [..]}                                              -> {"seconds": 4.5}
    {"do": "matmul", "shapes": [[m, k, n], ..], "precision": ".."}                -> {"seconds": [.., ..]}

A batch is padded to its longest sentence, with an attention mask. Seconds count the model alone, on ready tensors.
"""

import copy
import json
import sys
import time

import torch
import transformers
from transformers import BertConfig, BertForTokenClassification


class Peer:
    """The model in the precisions asked for, and its optimizer."""

    def start(self, config: dict, tag_count: int, device: str) -> dict:
        """Makes the model on the device, "cpu" or "cuda"; there, float32 products take TensorFloat-32."""
        torch.manual_seed(1)
        self.device = device
        if device == "cuda":
            torch.set_float32_matmul_precision("high")
        self.model = BertForTokenClassification(BertConfig(**config, num_labels=tag_count)).eval().to(device)
        self.tag_count = tag_count
        self.by_precision = {"float32": self.model}
        self.optimizer = None
        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "attention": self.model.config._attn_implementation,
        }

    def threads(self, count: int) -> dict:
        """Sets the number of threads of an operation."""
        torch.set_num_threads(count)
        return {}

    def tag(self, lengths: list, precision: str) -> dict:
        """Times one forward pass."""
        if precision not in self.by_precision:
            self.by_precision[precision] = copy.deepcopy(self.model).to(getattr(torch, precision)).eval()
        model = self.by_precision[precision]
        ids, mask = self._batch(lengths)
        with torch.inference_mode():
            started = time.perf_counter()
            # On a GPU the copy waits for the result.
            model(input_ids=ids, attention_mask=mask).logits.argmax(-1).cpu()
            return {"seconds": time.perf_counter() - started}

    def train(self, lengths: list) -> dict:
        """Times one step: forward, backward, clipping, AdamW."""
        if self.optimizer is None:
            self.trained = copy.deepcopy(self.model).train()
            self.optimizer = torch.optim.AdamW(self.trained.parameters(), lr=1e-5, weight_decay=0.01)
        ids, mask = self._batch(lengths)
        labels = torch.where(mask == 1, ids % self.tag_count, -100)
        started = time.perf_counter()
        self.trained(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - started}

    def matmul(self, shapes: list, precision: str) -> dict:
        """Times one product of each shape."""
        seconds = []
        for rows, inner, columns in shapes:
            dtype = getattr(torch, precision)
            left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
            with torch.inference_mode():
                started = time.perf_counter()
                left @ right
                seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}

    def _batch(self, lengths: list) -> tuple:
        places = torch.arange(max(lengths))
        mask = (places[None, :] < torch.tensor(lengths)[:, None]).long()
        ids = (torch.arange(mask.numel()).reshape(mask.shape) * 7919) % (self.model.config.vocab_size - 1) + 1
        return (ids * mask).to(self.device), mask.to(self.device)


def main() -> None:
    """Answers until its input ends."""
    peer = Peer()
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(peer, request.pop("do"))(**request)), flush=True)


if __name__ == "__main__":
    main()
