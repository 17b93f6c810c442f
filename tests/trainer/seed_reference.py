"""The seed's own computation, to be run in its own process: `seed_reference.py REQUEST.json RESULT.npz CHECKPOINT`.

It stands on `bert/modeling.py` of the package bert-tensorflow, under TensorFlow 1 behaviour and with the legacy Keras
that `tf.compat.v1.layers` needs. REQUEST.json holds `config` (of bert_config.json), `tag_count`, `token_ids` [B, S],
`input_mask` [B, S], `labels` [B, S] and `seed`. All weights are random, gains and biases too: at the seed's own
initialisation a wrong port hides. They are left as a TF1 checkpoint, with what an optimiser and a pretraining head add.
"""

import json
import os
import sys
import types

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()


def layer_norm(inputs, begin_norm_axis, begin_params_axis, scope=None):
    """Computes what `tf.contrib.layers.layer_norm` did, which TensorFlow 2 no longer has."""
    assert begin_norm_axis == begin_params_axis == -1
    with tf.variable_scope(scope or "LayerNorm"):
        size = inputs.shape[-1]
        beta = tf.get_variable("beta", [size], initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", [size], initializer=tf.ones_initializer())
        mean, variance = tf.nn.moments(inputs, [-1], keep_dims=True)
        return tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, 1e-12)


layers = types.ModuleType("tensorflow.contrib.layers")
layers.layer_norm = layer_norm
contrib = types.ModuleType("tensorflow.contrib")
contrib.layers = layers
sys.modules["tensorflow.contrib"] = contrib
sys.modules["tensorflow.contrib.layers"] = layers

from bert import modeling  # noqa: E402


def random_value(name, shape, generator):
    if name.endswith("gamma"):
        return 1 + 0.2 * generator.standard_normal(shape)
    if name.endswith(("beta", "bias")):
        return 0.2 * generator.standard_normal(shape)
    if name == "output_weights":
        return generator.standard_normal(shape) / np.sqrt(shape[1])
    if "embeddings" in name:
        return 0.5 * generator.standard_normal(shape)
    return generator.standard_normal(shape) / np.sqrt(shape[0])


def seed_graph(bert_config, num_labels, input_ids, input_mask, input_relation):
    """Returns logits, layer_dist, the fused layers and the loss, by the seed's lines, without its prints."""
    model = modeling.BertModel(
        config=bert_config,
        is_training=False,
        input_ids=input_ids,
        input_mask=input_mask,
        token_type_ids=None,
        use_one_hot_embeddings=False,
    )
    output_layer = model.get_sequence_output()
    hidden_size = output_layer.shape[-1].value
    layer_logits = []
    for i, layer in enumerate(model.all_encoder_layers):
        layer_logits.append(
            tf.layers.dense(
                layer,
                1,
                kernel_initializer=tf.truncated_normal_initializer(stddev=0.02),
                name=f"layer_logit{i}",
            )
        )
    layer_logits = tf.concat(layer_logits, axis=2)
    layer_dist = tf.nn.softmax(layer_logits)
    seq_out = tf.concat([tf.expand_dims(x, axis=2) for x in model.all_encoder_layers], axis=2)
    pooled_output = tf.matmul(tf.expand_dims(layer_dist, axis=2), seq_out)
    pooled_output = tf.squeeze(pooled_output, axis=2)
    pooled_layer = pooled_output
    output_weights = tf.get_variable(
        "output_weights", [num_labels, hidden_size], initializer=tf.truncated_normal_initializer(stddev=0.02)
    )
    output_bias = tf.get_variable("output_bias", [num_labels], initializer=tf.zeros_initializer())
    with tf.variable_scope("loss"):
        logits = tf.matmul(pooled_layer, output_weights, transpose_b=True)
        logits = tf.nn.bias_add(logits, output_bias)
        log_probs = tf.nn.log_softmax(logits, axis=-1)
        one_hot_labels = tf.one_hot(input_relation, depth=num_labels, dtype=tf.float32)
        per_example_loss = -tf.reduce_sum(one_hot_labels * log_probs, axis=-1)
        loss = tf.reduce_mean(per_example_loss)
    return logits, layer_dist, pooled_output, loss


def main(request_path, result_path, checkpoint_prefix):
    with open(request_path, encoding="utf-8") as file:
        request = json.load(file)
    logits, layer_dist, fused, loss = seed_graph(
        modeling.BertConfig.from_dict(request["config"]),
        request["tag_count"],
        tf.constant(request["token_ids"], tf.int32),
        tf.constant(request["input_mask"], tf.int32),
        tf.constant(request["labels"], tf.int32),
    )

    weights = {v.op.name: v for v in tf.trainable_variables() if not v.op.name.startswith("bert/pooler")}
    slopes = tf.gradients(loss, list(weights.values()))
    gradients = {f"gradient/{name}": tf.convert_to_tensor(slope) for name, slope in zip(weights, slopes, strict=True)}
    # What a training run with google-research's optimiser leaves beside the model.
    tf.get_variable("global_step", initializer=7, trainable=False)
    tf.get_variable("output_weights/adam_m", weights["output_weights"].shape, trainable=False)
    tf.get_variable("output_weights/adam_v", weights["output_weights"].shape, trainable=False)
    tf.get_variable("cls/predictions/output_bias", [3], trainable=False)

    generator = np.random.default_rng(request["seed"])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for variable in tf.trainable_variables():
            variable.load(random_value(variable.op.name, variable.shape.as_list(), generator), session)
        result = session.run({"logits": logits, "layer_dist": layer_dist, "fused": fused, "loss": loss} | gradients)
        tf.train.Saver().save(session, checkpoint_prefix, write_meta_graph=False)
    np.savez(result_path, **result)


if __name__ == "__main__":
    main(*sys.argv[1:])
