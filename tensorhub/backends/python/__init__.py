"""The `python` backend: runs Triton's `model.py` files unchanged, inside the worker."""
