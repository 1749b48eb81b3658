"""The `pytorch` backend: TorchScript programs (model.pt) and exported ones (model.pt2), run by PyTorch."""
