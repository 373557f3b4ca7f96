"""Launch and follow studies with spawner.py in a test."""

import os
import re
import subprocess
import time
from pathlib import Path

from tests.support import programs

SMALL = "num_envs: 2\nrollout_len: 64\nbatch_size: 32\neval_frequency: 0\neval_episodes: 1\ncompile: false\n"


class Studies:
    """spawner.py, called in this process, with its files, core queue and tmux server in the test's folder."""

    def __init__(self, folder):
        self.folder, self.data = folder, folder / "its data"
        inherited = {
            name: value for name, value in os.environ.items() if name not in ("TMUX", "WANDB_API_KEY", "MUJOCO_GL")
        }
        paths = {"TMUX_TMPDIR": str(folder / "t"), "TMPDIR": str(folder / "t"), "COLUMNS": "200"}
        self.env = inherited | paths | programs.AS_ROOT
        (folder / "t").mkdir()

    def task(self, text):
        path = self.folder / "the task.yaml"
        path.write_text(SMALL + text)
        return f"--config={path}"

    def run(self, *args, fails=False, **env):
        done = programs.call_spawner(self.folder, f"--data_dir={self.data}", *args, env=self.env | env)
        assert done.returncode == (2 if fails else 0), done.stdout + done.stderr
        if fails:
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return done.stderr if fails else done.stdout

    def states(self, study):
        """Return name → state, as --status shows."""
        shown = self.run("--status", study)
        states = "pending|running|finished|stopped|failed|not started"
        return dict(re.findall(rf"^  ({re.escape(study)}\S*) +({states}) ", shown, re.M))

    def wait(self, study, condition, seconds=500):
        """Wait until `condition(states)`, and return the states."""
        deadline = time.monotonic() + seconds
        while not condition(states := self.states(study)):
            assert time.monotonic() < deadline, (states, self.outputs(study))
            time.sleep(0.2)
        return states

    def wait_for_end(self, study, seconds=500):
        return self.wait(study, lambda states: not {"pending", "running"} & set(states.values()), seconds)

    def outputs(self, study):
        return {path.name: path.read_text() for path in self.files(study).glob("*.out")}

    def files(self, study):
        return self.data / "spawn" / study

    def processes(self):
        """Return the command lines of all processes that contain the test's folder."""
        commands = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.folder) in words:
                commands.append(words)
        return commands

    def close(self):
        """Stop the tmux server that a study has started."""
        if any((self.folder / "t").glob("tmux-*")):
            subprocess.run(["tmux", "kill-server"], env=self.env, capture_output=True)
