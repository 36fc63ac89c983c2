"""One run, from experiment to verdict."""
