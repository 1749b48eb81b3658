"""How the processes talk and share memory: real sockets, real processes."""
