"""The undo of every change of a run, on disk before the change, and the process that performs it when the harness cannot."""
