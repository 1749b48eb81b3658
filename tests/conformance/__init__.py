"""Conformance with Triton: requests whose answers were recorded from a real server, replayed against tensorhub."""
