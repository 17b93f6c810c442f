"""The seed's own graph on padded rows, for `bench.model_speed`; in a process of its own, for it needs TF1 behaviour.

One JSON request a line on standard input, `{"config": {..bert_config..}, "tag_count": 11, "rows": 8, "length": 512}`
first, which makes the graph; then `{"lengths": [..]}` for each batch, answered with `{"seconds": ..}`. A batch has at
most `rows` rows; it is padded to `length`, as the seed pads.
"""

import json
import sys
import time

from tests.trainer.seed_reference import modeling, seed_graph, tf  # isort: skip - it sets what TensorFlow needs first

import numpy as np


def main() -> None:
    """Answers until its input ends."""
    request = json.loads(sys.stdin.readline())
    length = request["length"]
    shape = [request["rows"], length]
    input_ids, input_mask = (tf.placeholder(tf.int32, shape) for _ in range(2))
    config = modeling.BertConfig.from_dict(request["config"])
    logits, *_ = seed_graph(config, request["tag_count"], input_ids, input_mask, tf.zeros(shape, tf.int32))
    # The seed has no name for its tags; the likeliest one is what any user of the logits computes.
    tags = tf.argmax(logits, axis=-1)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        print(json.dumps({}), flush=True)
        for line in sys.stdin:
            lengths = json.loads(line)["lengths"]
            mask = np.zeros(shape, np.int32)
            for row, count in enumerate(lengths):
                mask[row, :count] = 1
            ids = np.arange(mask.size).reshape(shape) * 7919 % (config.vocab_size - 1) + 1
            started = time.perf_counter()
            session.run(tags, {input_ids: ids * mask, input_mask: mask})
            print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
