"""What a deployment of TensorFlow Serving needs: its configuration, containers, manifests, monitoring and TLS files."""
