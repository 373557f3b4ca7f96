"""Shell completion, in a real bash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, readme

# What bash does when Tab is pressed after $LINE; its readline splits words at = too.
TAB = """
set -- $LINE
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9 COMP_WORDS=("$@") COMP_CWORD=$#
_python_argcomplete_global "$1" "${!#}" "" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(line):
    """Return the completions of a command line that ends where the cursor is."""
    lines = [line for page in readme.PAGES for line in readme.commands(page)]
    command = next(line for line in lines if line.startswith('eval "$(activate-global'))
    env = os.environ | {"LINE": line, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = ["bash", "--norc", "-c", f"{command}\n{TAB}"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)
    assert done.stderr == ""
    return [word.strip() for word in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("python main.py --alg", ["--algo"]),
        ("python main.py --algo=", ["ppo", "sac", "td3", "bc", "gail", "airl", "dac", "sqil", "iq", "dagger"]),
        ("python main.py --num_en", ["--num_envs"]),
        ("python main.py --algo=td3 --explo", ["--exploration_noise"]),
        ("python main.py --task=train --clip_ra", ["--clip_range"]),
        ("python main.py --task=eval --clip_ra", [""]),  # a flag of PPO
        ("python main.py --algo=td3 --clip_ra", [""]),
        ("python main.py --num_envs=", [""]),  # no names of files
        ("python spawner.py --caliber=d", ["debug", "daylong"]),
    ],
)
def test_shell_completes_flags_and_values(line, completions):
    assert complete(line) == completions
