"""`python -m chaoslab.stack.docker_sweep RUN_ID`, the old name of `chaoslab.stack.compose.sweep`, kept for undo journals."""

import sys

from chaoslab.stack.compose.sweep import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
