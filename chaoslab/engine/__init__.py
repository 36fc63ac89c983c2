"""The phases of a run: steady state, faults, failback, and what ends them early."""
