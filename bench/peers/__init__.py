"""What a user would pick instead: each peer is its own real code, from its own package, behind one interface.

`table` names them, `bench.peers.team.Team` is the interface, ``python -m bench.peers`` installs those that need an environment of
their own. `bench.questions.bench_peers` measures them against ours.
"""
