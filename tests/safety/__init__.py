"""What must never happen, one module for each promise of docs/security.md, shown on a running server.

Those that gain from repetition run few turns by default; TENSORHUB_SOAK=full has them run as long as they should.
"""
