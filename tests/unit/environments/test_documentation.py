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
from milozero.evaluation.video import to_frame
from milozero.helpers.errors import RunError, UserError
from tests.support import ROOT
from tests.support.odd_envs import (
    BAD_FLAGS,
    BAD_OBSERVATIONS,
    BAD_REWARDS,
    FLAGS,
    GOOD_PICTURES,
    INFOS,
    KEEPS_STATE,
    OBSERVATIONS,
    PICTURES,
    REWARDS,
    Oddity,
    register_odd,
)

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


# row of a table in docs/environments.md → oddities that it says are supported or refused
SUPPORTED = {
    "observation": [{"obs": name} for name in OBSERVATIONS if name not in BAD_OBSERVATIONS],
    "reward": [{"reward": name} for name in REWARDS if name not in BAD_REWARDS],
    "`terminated`, `truncated`": [{"flags": name} for name in FLAGS if name not in BAD_FLAGS],
    "info": [{"info": name} for name in INFOS],
    "frame for `--record`": [{"picture": name} for name in GOOD_PICTURES],
    "random numbers": [{"randomness": name} for name in ("np_random", "random", "numpy", "torch")],
    "normalizing wrappers": [{"wrapper": name} for name in KEEPS_STATE],
    "modules beside yours": [],  # tests/unit/helpers/test_import_path.py
}
REFUSED = {
    "API": [{"api": name} for name in ("old reset", "old step", "no options", "no seed")],
    "observation": [{"obs": name} for name in BAD_OBSERVATIONS],
    "reward": [{"reward": name} for name in BAD_REWARDS],
    "`terminated`, `truncated`": [{"flags": name} for name in BAD_FLAGS],
    "frame for `--record`": [{"picture": name} for name in PICTURES if name not in (*GOOD_PICTURES, "raises")],
}


def read_rows(heading):
    """Return the first column of the table with a heading."""
    table = TEXT.partition(f"| what | {heading} |\n|---|---|\n")[2].partition("\n\n")[0]
    return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()]


def use(oddity):
    """Check an odd environment and record two of its pictures; return the warnings."""
    with register_odd(Oddity(**oddity)) as env_id:
        env = environments.make_env(env_id)
        findings = environments.check_env(env_id, env)
        env.reset(seed=0)
        frames = [to_frame(env.render())]
        env.step(np.zeros(2, np.float32))
        frames.append(to_frame(env.render()))
        env.close()
    if frames[0].shape != frames[1].shape:
        raise RunError("the frames differ in size")
    return findings


def test_documented_oddities_are_supported():
    assert read_rows("supported") == list(SUPPORTED)
    findings = {row: [use(oddity) for oddity in oddities] for row, oddities in SUPPORTED.items()}
    for row in ("info", "frame for `--record`", "random numbers"):
        assert not any(findings[row]), row
    assert all(len(found) == 1 for found in findings["normalizing wrappers"])


@pytest.mark.parametrize("row", REFUSED)
def test_documented_oddities_are_refused(row):
    assert read_rows("refused with a one-line error") == list(REFUSED)
    for oddity in REFUSED[row]:
        with pytest.raises((UserError, RunError)) as error:
            use(oddity)
        assert str(error.value).isprintable()
