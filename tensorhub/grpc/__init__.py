"""The gRPC frontend: `tensorhub-grpc`, any number of processes on one port.

`engine` is what the rest sees of gRPC; `reactor` and `threads` are the two engines, `self_test` chooses between them.
`routes` is the table of methods, whose handlers are in `inference`, `state`, `repository` and `shared_memory`, made of
the two shapes in `answering`. `options`, `listening` and `main` make a daemon of it.
"""
