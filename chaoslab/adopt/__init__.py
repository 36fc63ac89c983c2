"""Adopts a Compose project that does not use chaoslab: reads it, guesses with reasons, and writes an overlay."""
