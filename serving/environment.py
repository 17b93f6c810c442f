"""How TensorFlow is set up in a model server; read when TensorFlow is imported. Imports nothing."""

# Variables that are set unless they are set already; the images and the deployment set the same.
TENSORFLOW_ENVIRONMENT = {
    # By itself TensorFlow uses oneDNN on some processors only.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # oneDNN's own allocator doubles what it takes from the system and returns none of it: after its warm-up requests a
    # BERT-base held 1.50 times its weights, with the system's allocator 1.02 times.
    "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
}
