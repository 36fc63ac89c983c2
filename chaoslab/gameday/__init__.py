"""A game day: many experiments, one after the other, and one page of what they came to."""
