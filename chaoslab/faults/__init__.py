"""The faults: what each does to a stack, how it is verified from outside, and how it is healed."""
