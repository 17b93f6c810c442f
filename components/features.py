"""Names of features, tensors, signatures and assets: the one place that owns them."""

from __future__ import annotations

# Features of an example as ExampleGen writes it (tf.Example).
ID = "id"  # bytes [1]
TEXT = "text"  # bytes [1], UTF-8
ENTITY_START = "entity_start"  # int64 [entities], code points
ENTITY_END = "entity_end"  # int64 [entities], code points, exclusive
ENTITY_TYPE = "entity_type"  # bytes [entities]
SOURCE = "source"  # bytes [1], file:line

# Features that Transform adds; ID, TEXT, SOURCE and the ENTITY_* features pass through unchanged.
TOKEN_IDS = "token_ids"  # int64 [tokens], word pieces without [CLS] and [SEP]
TOKEN_START = "token_start"  # int64 [tokens], code points of the original text
TOKEN_END = "token_end"  # int64 [tokens], exclusive
TAG_IDS = "tag_ids"  # int64 [tokens]
UNALIGNED_ENTITY = "unaligned_entity"  # int64 [n], indices of the entities that no run of word pieces covers exactly

# Assets that Transform leaves beside its graph.
VOCABULARY_ASSET = "vocab.txt"
TAGS_ASSET = "tags.txt"
TOKENIZER_ASSET = "tokenizer.json"  # {"lower_case": bool}

# Signatures of the exported model.
SERVING_SIGNATURE = "serving_default"
TOKENS_SIGNATURE = "tokens"
EXAMPLES_SIGNATURE = "examples"
EXPLAIN_SIGNATURE = "explain"

# Tensors of the signatures.
PADDING_MASK = "padding_mask"
LOGITS = "logits"
LAYER_WEIGHTS = "layer_weights"
TOKEN_COUNT = "token_count"
TOKEN_TEXT = "token_text"
TAG_NAME = "tag_name"
TAG_PROBABILITY = "tag_probability"
ENTITY_COUNT = "entity_count"
ENTITY_TEXT = "entity_text"
ENTITY_SCORE = "entity_score"
EXAMPLES = "examples"
GOLD_ENTITIES = "gold_entities"  # string [B, G], "start<TAB>end<TAB>type", rows padded with ""
PREDICTED_ENTITIES = "predicted_entities"  # string [B, E], the same form
PREDICTED_SCORE = "predicted_score"  # float32 [B, E], rows padded with 0
