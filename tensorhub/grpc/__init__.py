"""The gRPC frontend: `tensorhub-grpc`, any number of processes on one port.

`engine` is what the rest sees of gRPC; `reactor` and `threads` are the two engines, `self_test` chooses between them.
`routes` is the table of methods, each behind a guard of `rules`. Its handlers are in `inference`, `streaming`, `state`,
`health`, `reflection`, `observation`, `repository` and `shared_memory`, made of
the two shapes in `answering`. `options`, `listening` and `main` make a daemon of it.
"""
