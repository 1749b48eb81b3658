"""A small client of the v2 protocol over HTTP, for the command line tools: the standard library and NumPy, no more."""
