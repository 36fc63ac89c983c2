"""What a run leaves on disk: rows, result, logs and bundle, in one folder per run."""
