"""docs/environments.md matches the code."""

import re
import sys
import types

import gymnasium
import numpy as np
import pytest

from milozero import environments
from milozero.environments import bundles, dmc, registered, registry
from milozero.helpers.errors import UserError
from tests.support import ROOT

TEXT = (ROOT / "docs" / "environments.md").read_text()


def test_bundles_are_documented():
    for name, (purpose, members) in bundles.BUNDLES.items():
        ids = ", ".join(f"`{env_id}`" for env_id in members)
        assert f"| `{name}` | {purpose} | {ids} |" in TEXT


def test_envpool_mismatches_are_documented_with_the_reason():
    for env_id, reason in dmc.ENVPOOL_MISMATCHES.items():
        assert f"| `{env_id}` | {reason} |" in TEXT
    for env_id, reason in registered.ENVPOOL_MISMATCHES.items():
        assert f"`{env_id}` ({reason})" in " ".join(TEXT.split())


def test_documented_example_suite_works(monkeypatch):
    code = re.search(r'```python\n("""Tasks of some_simulator.*?)```', TEXT, re.S)[1]
    name = re.search(r'SUITES = {\n    "some": "(.+)",', TEXT)[1]
    module = types.ModuleType(name)
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(registry, "SUITES", {"some": name, **registry.SUITES})
    with pytest.raises(
        UserError, match=r"some:task-v0 requires some_simulator \(pip install some_simulator==1\.0\)$"
    ):
        environments.make_vector_env("some:task-v0", 2)
    simulator = types.ModuleType("some_simulator")
    simulator.make = lambda name, render_mode: gymnasium.make("CartPole-v1", render_mode=render_mode)
    monkeypatch.setitem(sys.modules, "some_simulator", simulator)
    assert environments.resolve("some:task-v0") == "some:task-v0"
    env = environments.make_vector_env("some:task-v0", 2)
    assert env.reset([0, 1]).shape == (2, 4)
    assert env.step(np.zeros(2, int))[1].tolist() == [1, 1]
    assert environments.find_suite("CartPole-v1") is registry.get_suite("gymnasium")
