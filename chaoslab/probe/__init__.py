"""The instrument: an open-loop prober in a process of its own, outside every site.

It imports neither the spec's models nor the engine, so that it stays small and nothing of theirs can stall it.
"""
