"""Whole flows of stock clients against a running server."""
