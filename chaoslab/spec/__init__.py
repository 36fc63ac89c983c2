"""The two files that users write, an experiment and a stack: their models, and how they are loaded with positions."""
