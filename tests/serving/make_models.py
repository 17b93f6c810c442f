"""Builds the small SavedModels that the recorded answers belong to: `python make_models.py OUT`.

Writes these version folders under OUT; the set-ups copy them to <root>/<model>/<version>:

    ner_w1, ner_w3, ner_w5   a tagger with the signatures of the real one; the scores show which answered
    aux                      auxiliary signatures: data types, shapes, a slow one
    clf                      a TF1-style export
    ner_garbage_pb           saved_model.pb holds no protobuf
    ner_no_pb                no saved_model.pb, only an unrelated file
    ner_no_variables         the variables folder is missing
    ner_warm_KIND            ner_w1 with a warm-up file: good, other_name, bad_signature, garbage (no record file),
                             unparsable (the record is no PredictionLog), too_many (1001), unset, session_run

The tagger: an entity is a maximal run of ASCII capitals (type CAP) or ASCII digits (type NUM). Offsets count code
points, end exclusive; invalid UTF-8 decodes to U+FFFD. score = length / (length + weight).

Names of nodes appear in recorded messages, so the graphs must stay as they are.
"""

from __future__ import annotations

import argparse
import os
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
import tensorflow as tf

K, L, VOCAB = 3, 4, 16


class Tagger(tf.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = tf.Variable(float(weight), name="weight")
        self.table = tf.Variable([[float(i * K + j) for j in range(K)] for i in range(VOCAB)], name="table")
        self.layers = tf.constant([0.5, 0.25, 0.125, 0.125])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def tag(self, text):
        rows = tf.size(text)
        cp = tf.strings.unicode_decode(text, "UTF-8", errors="replace", replacement_char=0xFFFD)
        flat, rowid, row_start = (
            cp.flat_values,
            tf.cast(cp.value_rowids(), tf.int32),
            tf.cast(cp.row_starts(), tf.int32),
        )
        cap = tf.logical_and(flat >= ord("A"), flat <= ord("Z"))
        num = tf.logical_and(flat >= ord("0"), flat <= ord("9"))
        kind = tf.cast(cap, tf.int32) + 2 * tf.cast(num, tf.int32)
        key = rowid * 3 + kind
        edge = tf.constant([-1])
        first = tf.logical_and(kind > 0, tf.not_equal(key, tf.concat([edge, key[:-1]], 0)))
        last = tf.logical_and(kind > 0, tf.not_equal(key, tf.concat([key[1:], edge], 0)))
        at = tf.cast(tf.where(first)[:, 0], tf.int32)
        to = tf.cast(tf.where(last)[:, 0], tf.int32) + 1
        row = tf.gather(rowid, at)
        start = at - tf.gather(row_start, row)
        end = to - tf.gather(row_start, row)
        count = tf.math.unsorted_segment_sum(tf.ones_like(row), row, rows)
        width = tf.maximum(tf.reduce_max(count), 0)
        nth = tf.range(tf.size(row)) - tf.gather(tf.cumsum(count, exclusive=True), row)
        where = tf.stack([row, nth], axis=1)
        chars = tf.boolean_mask(flat, kind > 0)
        owner = tf.boolean_mask(tf.cumsum(tf.cast(first, tf.int32)) - 1, kind > 0)
        words = tf.strings.unicode_encode(
            tf.RaggedTensor.from_value_rowids(chars, tf.cast(owner, tf.int64), nrows=tf.size(row, tf.int64)), "UTF-8"
        )
        length = tf.cast(to - at, tf.float32)
        shape = tf.stack([rows, width])

        def spread(pad, values):
            return tf.tensor_scatter_nd_update(tf.fill(shape, pad), where, values)

        return {
            "entity_count": count,
            "entity_start": spread(tf.constant(-1), start),
            "entity_end": spread(tf.constant(-1), end),
            "entity_type": spread(tf.constant(""), tf.gather(tf.constant(["", "CAP", "NUM"]), tf.gather(kind, at))),
            "entity_text": spread(tf.constant(""), words),
            "entity_score": spread(tf.constant(0.0), length / (length + self.weight)),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, name="token_ids"),
            tf.TensorSpec([None, None], tf.int32, name="padding_mask"),
        ]
    )
    def tokens(self, token_ids, padding_mask):
        mask = tf.cast(padding_mask, tf.float32)[:, :, tf.newaxis]
        logits = tf.gather(self.table, token_ids) * mask
        return {"logits": logits, "layer_weights": mask * self.layers}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def examples(self, examples):
        parsed = tf.io.parse_example(
            examples,
            {
                "text": tf.io.FixedLenFeature([], tf.string, default_value=""),
                "value": tf.io.FixedLenFeature([], tf.float32, default_value=0.0),
            },
        )
        return {"text_length": tf.strings.length(parsed["text"]), "value": parsed["value"] * self.weight}


class Aux(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def types(self, x):
        return {
            "f": x,
            "d": tf.cast(x, tf.float64),
            "i32": tf.cast(x, tf.int32),
            "i64": tf.cast(x, tf.int64),
            "u8": tf.cast(x, tf.uint8),
            "b": x > 0,
            "s": tf.strings.as_string(x),
            "s_bytes": tf.strings.as_string(x),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half(self, x):
        return {"h": tf.cast(x, tf.float16)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def stats(self, x):
        return {"total": tf.reduce_sum(x), "twice": x * 2.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def uneven(self, x):
        return {"once": x, "twice_as_long": tf.concat([x, x], 0)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name="table"),
            tf.TensorSpec([None], tf.int32, name="index"),
        ]
    )
    def gather(self, table, index):
        return {"rows": tf.gather(table, index)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="steps")])
    def slow(self, steps):
        n = tf.reduce_max(steps)
        m = tf.eye(256)
        i, m = tf.while_loop(lambda i, m: i < n, lambda i, m: (i + 1, tf.matmul(m, m)), [0, m], parallel_iterations=1)
        return {"done": steps + 0 * tf.cast(m[0, 0], tf.int32) + 0 * i}


def echo(dtype):
    @tf.function(input_signature=[tf.TensorSpec([None], dtype, name="x")])
    def fn(x):
        return {"y": tf.identity(x)}

    return fn


def save_ner(path, weight):
    m = Tagger(weight)
    tf.saved_model.save(m, path, signatures={"serving_default": m.tag, "tokens": m.tokens, "examples": m.examples})


def save_aux(path):
    m = Aux()
    sig = {
        "serving_default": m.stats,
        "types": m.types,
        "half": m.half,
        "stats": m.stats,
        "uneven": m.uneven,
        "gather": m.gather,
        "slow": m.slow,
    }
    for t in (tf.int32, tf.int64, tf.uint8, tf.uint64, tf.int8, tf.float32, tf.float64, tf.bool, tf.string):
        f = echo(t)
        setattr(m, "echo_" + t.name, f)
        sig["echo_" + t.name] = f
    tf.saved_model.save(m, path, signatures=sig)


def save_clf(path):
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as sess:
        ex = v1.placeholder(tf.string, [None], name="examples")
        x = v1.parse_example(ex, {"x": v1.FixedLenFeature([], tf.float32)})["x"]
        scores = tf.stack([x, 1.0 - x], axis=1, name="scores")
        classes = tf.tile(tf.constant([["low", "high"]]), [tf.shape(x)[0], 1], name="classes")
        out = tf.identity(x * 2.0, name="outputs")
        s = v1.saved_model.signature_def_utils
        b = v1.saved_model.builder.SavedModelBuilder(path)
        b.add_meta_graph_and_variables(
            sess,
            ["serve"],
            signature_def_map={
                "serving_default": s.classification_signature_def(ex, classes, scores),
                "regress": s.regression_signature_def(ex, out),
                "predict": s.predict_signature_def({"examples": ex}, {"outputs": out}),
            },
        )
        b.save()


def save_warm(path, src, kind):
    from tensorflow_serving.apis import prediction_log_pb2

    shutil.copytree(src, path)
    os.makedirs(os.path.join(path, "assets.extra"), exist_ok=True)
    name = os.path.join(path, "assets.extra", "tf_serving_warmup_requests")
    if kind == "garbage":
        with open(name, "wb") as f:
            f.write(b"this is not a record file, not at all\n" * 4)
        return
    log = prediction_log_pb2.PredictionLog()
    r = log.predict_log.request
    r.model_spec.name = "someone_else" if kind == "other_name" else "ner"
    r.model_spec.signature_name = "nope" if kind == "bad_signature" else "serving_default"
    r.inputs["text"].CopyFrom(tf.make_tensor_proto(["WARM 1"]))
    if kind == "unset":
        log.Clear()
    if kind == "session_run":
        log.session_run_log.request.model_spec.name = "ner"
    with tf.io.TFRecordWriter(name) as w:
        for _ in range(1001 if kind == "too_many" else 1):
            w.write(b"\xff\xff\xff" if kind == "unparsable" else log.SerializeToString())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    out = ap.parse_args().out
    os.makedirs(out, exist_ok=True)
    p = lambda n: os.path.join(out, n)  # noqa: E731
    for w in (1, 3, 5):
        save_ner(p(f"ner_w{w}"), w)
    save_aux(p("aux"))
    save_clf(p("clf"))
    shutil.copytree(p("ner_w1"), p("ner_garbage_pb"))
    with open(p("ner_garbage_pb/saved_model.pb"), "wb") as f:
        f.write(b"\xff\xfe not a protobuf")
    os.makedirs(p("ner_no_pb"))
    with open(p("ner_no_pb/note.txt"), "w") as f:
        f.write("the copy is not complete\n")
    shutil.copytree(p("ner_w1"), p("ner_no_variables"), ignore=shutil.ignore_patterns("variables"))
    for kind in ("good", "other_name", "bad_signature", "garbage", "unparsable", "too_many", "unset", "session_run"):
        save_warm(p("ner_warm_" + kind), p("ner_w1"), kind)


if __name__ == "__main__":
    main()
