"""docs/environments.md matches the code."""

import re
import sys
import types

import gymnasium
import numpy as np
import pytest

from milozero import environments
from milozero.environments import bundles, dmc, registered, registry
from milozero.environments.vector import check_spaces
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


def read_spaces(heading):
    """Return (space, whether it is refused) for each space in a table of docs/environments.md."""
    table = TEXT.split(f"| {heading} | the policy |")[1].split("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines() if row.startswith("| `")]
    return [(code, effect.startswith("refused")) for cell, effect in rows for code in re.findall("`(.*?)`", cell)]


@pytest.mark.parametrize(
    ("heading", "code", "refused"),
    [(heading, *row) for heading in ("actions", "observations") for row in read_spaces(heading)],
)
def test_documented_spaces_are_supported_or_refused(heading, code, refused):
    space, simple = eval(code, vars(gymnasium.spaces) | {"np": np}), gymnasium.spaces.Box(-1, 1, (2,))
    pair = (simple, space) if heading == "actions" else (space, simple)
    if refused:
        with pytest.raises(UserError, match=r"^Odd-v0: "):
            check_spaces("Odd-v0", *pair)
    else:
        check_spaces("Odd-v0", *pair)


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
