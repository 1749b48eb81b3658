"""The bench: tensorhub against a peer server, in turn, on the same machine and the same model repository.

`python -m tools.bench --help` explains its use. The rules it keeps:

- a server's answers are checked, with the very bytes that are sent under load, before it is measured;
- both servers are up at the same time, one is loaded at a time, in turn: A B A B ...; what is compared is the ratio
  within each pair, so that a machine that slows down half-way slows both;
- beside throughput or latency stands the CPU time that all processes of a server together spend per request, which
  other load on the machine hardly moves.

Modules, from the bottom: `errors`, `workloads` (the table), `measurements`; pure `report` and `history`; edges
`processes`, `servers`, `machine`; load generators `wrk`, `h2load`, `closed_loop` with `http_client` and `grpc_client`;
`payloads` (exact request bytes and their right answers); `load` and `footprint` (which measure one server);
`alternation` (which server when); `plot`; `__main__`.
"""
