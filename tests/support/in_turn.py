"""Call main.py several times in one process, which only starts once.

    [mpiexec -n N] python -m tests.support.in_turn FILE

The file is a JSON list of argument lists.
"""

import json
import sys
from pathlib import Path

from milozero import main

if __name__ == "__main__":
    for argv in json.loads(Path(sys.argv[1]).read_text()):
        if code := main.main(argv):
            sys.exit(code)
