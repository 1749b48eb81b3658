"""The `onnxruntime` backend: networks in ONNX files, run by ONNX Runtime."""
