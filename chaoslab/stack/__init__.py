"""A stack that runs: what it consists of (topology), and the two runtimes that bring it up."""
