"""Importing EnvPool without some of its suites, in separate processes."""

import json
import subprocess
import sys

import gymnasium

from tests.support import ROOT


def run_and_load(program):
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_no_skipped_task_is_registered_with_gymnasium():
    all_ids = run_and_load("import envpool, json; print(json.dumps(envpool.list_all_envs()))")
    ids = run_and_load(
        "import json, sys; from milozero.environments.pool import import_envpool;"
        "ids = import_envpool().list_all_envs();"
        "assert 'matplotlib' not in sys.modules; print(json.dumps(ids))"
    )
    assert ids < all_ids
    assert not (all_ids - ids) & set(gymnasium.registry)
    assert {"Hopper-v5", "CartPole-v1", "WalkerWalk-v1"} <= ids
