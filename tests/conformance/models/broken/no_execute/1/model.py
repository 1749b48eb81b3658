class TritonPythonModel:
    """Loads, but cannot answer."""
