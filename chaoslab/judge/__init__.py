"""From the rows of a run to its verdict. Pure: no process, socket, file, clock or randomness."""
