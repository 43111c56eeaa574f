"""TensorFlow Serving's REST predict, before Triton: a translator in a process of its own."""
