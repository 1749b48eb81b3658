class TritonPythonModel:
    def __init__(self):
        raise RuntimeError("in the constructor")

    def execute(self, requests):
        return None
