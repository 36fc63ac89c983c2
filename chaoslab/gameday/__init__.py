"""A game day: many experiments, one after the other, and one page of their results."""
