"""The prober: open loop, in a separate process, outside every site.

Its process imports neither the spec's models nor the engine, so that it stays small and they cannot stall it.
"""
