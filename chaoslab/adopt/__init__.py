"""A Compose project that knows nothing of chaoslab: read, guessed about with reasons, and given an overlay of its own."""
