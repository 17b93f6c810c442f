"""The embedded server: TensorFlow Serving's API and model management in Python, for laptops and tests."""
