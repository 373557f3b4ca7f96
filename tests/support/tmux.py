"""The tmux server of a test."""

import os
import subprocess

ENDLESS = "num_timesteps: 1e9\nsave_frequency: 5\n"  # settings of a task file
CORES = len(os.sched_getaffinity(0))


def tmux(studies, *command):
    return subprocess.run(["tmux", *command], env=studies.env, capture_output=True, text=True).stdout


def windows(studies):
    """Return name of each window → exit code, empty while it runs."""
    lines = tmux(studies, "list-panes", "-a", "-F", "#{window_name}\t#{pane_dead_status}").splitlines()
    return dict(line.split("\t") for line in lines)


def panes(studies):
    return tmux(studies, "list-panes", "-a", "-F", "#{pane_id}").split()


def is_running(states):
    return "running" in states.values()
