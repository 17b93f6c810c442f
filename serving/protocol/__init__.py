"""TensorFlow Serving's wire protocol, as far as the tagger's client needs it, without TensorFlow."""
