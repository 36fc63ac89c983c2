"""A Compose file and its overlays, read for what a stack consists of."""
