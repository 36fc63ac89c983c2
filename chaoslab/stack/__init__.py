"""A running stack: what it consists of (topology), and the two runtimes that boot it."""
