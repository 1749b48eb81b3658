"""Clients' shared memory, with real segments in /dev/shm."""
