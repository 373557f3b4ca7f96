"""What is left out of EnvPool's families, in programs of their own."""

import json
import subprocess
import sys

import gymnasium

from tests.support import ROOT


def ids(program):
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_no_task_that_gymnasium_knows_is_left_out():
    whole = ids("import envpool, json; print(json.dumps(envpool.list_all_envs()))")
    kept = ids(
        "import json, sys; from milozero.environments.pool import envpool_package as get;"
        "ids = get().list_all_envs();"
        "assert 'matplotlib' not in sys.modules; print(json.dumps(ids))"
    )
    assert kept < whole
    assert not (whole - kept) & set(gymnasium.registry)
    assert {"Hopper-v5", "CartPole-v1", "WalkerWalk-v1"} <= kept
