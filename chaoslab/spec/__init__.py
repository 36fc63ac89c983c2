"""The two files a person writes, an experiment and a stack: their models, and how they are loaded with positions."""
