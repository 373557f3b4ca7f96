"""The DeepMind Control suite."""

import gc
import json
import os
import subprocess
import sys
import warnings

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from milozero import environments
from milozero.environments import dmc, pool
from milozero.environments.dm_control_env import DMControlEnv
from milozero.helpers.errors import UserError
from tests.support import ROOT


@pytest.mark.parametrize("task", ["cheetah-run", "ball_in_cup-catch", "cartpole-swingup_sparse", "humanoid_CMU-run"])
def test_all_spellings_resolve_to_one_id(task):
    for name in (f"dmc:{task}", f"dm_control/{task}-v0", f"dm_control/{task}"):
        assert environments.resolve(name) == f"dmc:{task}"


@pytest.mark.parametrize(
    ("wrong", "suggestion"),
    [
        ("dmc:cheeta-run", "dmc:cheetah-run"),
        ("dm_control/ball_in_cup_catch-v0", "dmc:ball_in_cup-catch"),
        ("dmc:cheetah-run-v1", "dmc:cheetah-run"),
        ("dmc:", "dmc:domain-task"),
    ],
)
def test_unknown_id_suggests_similar_ones(wrong, suggestion):
    with pytest.raises(UserError, match=suggestion):
        environments.resolve(wrong)


def test_ids_and_envpool_names_cover_the_suite():
    from dm_control import suite
    from envpool.registration import registry

    assert dmc.list_env_ids() == [f"dmc:{domain}-{task}" for domain, task in suite.ALL_TASKS]
    envpool_names = {name for name, (path, *_) in registry.specs.items() if path == "envpool.mujoco.dmc"}
    assert {dmc.to_envpool_name(env_id) for env_id in dmc.list_env_ids()} == envpool_names
    assert set(dmc.ENVPOOL_MISMATCHES) <= set(dmc.list_env_ids())


def test_missing_dm_control_is_reported_with_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_control", None)
    for call in (environments.resolve, environments.make_env):
        with pytest.raises(UserError, match="pip install dm_control"):
            call("dmc:cheetah-run")
    with pytest.raises(UserError, match="dmc:cheetah-run"):
        environments.resolve("dmc:cheeta-run")


def test_failed_import_of_dm_control_is_a_one_line_error(monkeypatch):
    class Broken:
        """Fails to import the suite's renderer."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "dm_control.suite":
                raise RuntimeError("no renderer\n  of this name.")

    monkeypatch.delitem(sys.modules, "dm_control.suite", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    with pytest.raises(UserError) as caught:
        environments.make_env("dmc:cheetah-run")
    assert str(caught.value).startswith("dmc:cheetah-run: cannot import dm_control: no renderer of this name; ")


def test_import_needs_no_simulator_and_loading_is_silent():
    code = """
import os, sys
from tests.support import ROOT
before = dict(os.environ)
from milozero import environments
from milozero.environments import dmc
assert environments.resolve("dmc:cheetah-run") in dmc.list_env_ids()
assert not {"dm_control", "mujoco", "envpool"} & set(sys.modules)
assert before == dict(os.environ)
environments.make_vector_env("dmc:cheetah-run", 1).reset([0])
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MUJOCO_GL")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_observation_concatenates_parts_in_the_order_of_dm_control():
    env = environments.make_env("dmc:humanoid-walk")
    obs, _ = env.reset(seed=3)
    suite = env.unwrapped._env
    assert list(env.unwrapped.parts) == list(suite.observation_spec())
    assert env.unwrapped.parts == {
        "joint_angles": 21,
        "head_height": 1,
        "extremities": 12,
        "torso_vertical": 3,
        "com_velocity": 3,
        "velocity": 27,
    }
    assert obs.dtype == env.observation_space.dtype == gymnasium.make("Hopper-v5").observation_space.dtype
    np.testing.assert_array_equal(obs[:21], suite.physics.joint_angles())
    assert obs[21] == suite.physics.head_height()
    np.testing.assert_array_equal(obs[-27:], suite.physics.velocity())


@pytest.mark.parametrize("env_id", ["dmc:point_mass-hard", "dmc:lqr-lqr_2_1", "dmc:quadruped-escape"])
def test_seed_determines_the_episode_regardless_of_previous_ones(env_id):
    def episode(env, seed):
        first, _ = env.reset(seed=seed)
        action = 0.1 * env.action_space.high.clip(max=10)
        return np.concatenate([first, *(env.step(action)[0] for _ in range(5))])

    env, other = environments.make_env(env_id), environments.make_env(env_id)
    first = episode(env, 7)
    assert not np.allclose(episode(env, 8), first)
    following = episode(env, None)
    assert not np.allclose(following, first)
    np.testing.assert_array_equal(episode(env, 7), first)
    np.testing.assert_array_equal(episode(other, 7), first)
    episode(other, 8)
    np.testing.assert_array_equal(episode(other, None), following)


@pytest.mark.parametrize("env_id", ["dmc:pendulum-swingup", "dmc:lqr-lqr_2_1"])
def test_episode_is_truncated_after_1000_steps(env_id):
    env = environments.make_env(env_id)
    env.reset(seed=0)
    ends = [env.step(np.zeros(env.action_space.shape))[2:4] for _ in range(1000)]
    assert ends == [(False, False)] * 999 + [(False, True)]


@pytest.mark.parametrize(
    ("env_id", "kwargs"), [("dmc:pendulum-swingup", {}), ("dmc:cheetah-run", {"time_limit": 0.2})]
)
def test_vectors_truncate_and_reset_on_the_next_step(env_id, kwargs):
    """The first case uses EnvPool, the second dm_control."""
    env = environments.make_vector_env(env_id, 2, kwargs)
    assert isinstance(env._env, pool.EnvPoolVector) is not bool(kwargs)
    env.reset([0, 1])
    steps = 20 if kwargs else 1000
    for _ in range(steps):
        _, _, terminated, truncated = env.step(np.ones((2, *env.action_shape)))
        assert not terminated.any()
    assert truncated.all()
    _, reward, terminated, truncated = env.step(np.ones((2, *env.action_shape)))
    np.testing.assert_array_equal(np.concatenate([reward, terminated, truncated]), 0)
    assert env.step(np.ones((2, *env.action_shape)))[1].shape == (2,)
    env.close()


def test_terminal_state_terminates():
    env = environments.make_env("dmc:lqr-lqr_2_1")
    env.reset(seed=0)
    physics = env.unwrapped._env.physics
    physics.data.qpos[:], physics.data.qvel[:] = 1e-12, 0.0
    physics.after_reset()  # recomputes the forces
    assert env.step(np.zeros(1))[2:4] == (True, False)


def test_env_kwargs_change_the_task():
    env = environments.make_env("dmc:cheetah-run", None, {"time_limit": 2, "control_timestep": 0.02})
    assert env.spec.max_episode_steps == 100
    assert env.metadata["render_fps"] == 50
    assert env.spec.kwargs["task_kwargs"] == {"time_limit": 2, "control_timestep": 0.02}
    blind = environments.make_env("dmc:manipulator-bring_ball", None, {"fully_observable": False})
    assert list(blind.unwrapped.parts) == ["arm_pos", "arm_vel", "touch"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"time_limits": 3}, "time_limit"),
        ({"random": 3}, "does not accept 'random'"),
        ({"flat_observation": True}, "does not accept 'flat_observation'"),
        ({"time_limit": -1}, "positive number"),
        ({"time_limit": "long"}, "positive number"),
        ({"legacy_step": 3}, "true or false"),
        ({"control_timestep": 0.015}, "multiple"),
    ],
)
def test_invalid_env_kwargs_are_a_one_line_error(kwargs, message):
    with pytest.raises(UserError, match=message):
        environments.make_env("dmc:cheetah-run", None, kwargs)


# The tasks have unscaled actions and unbounded observations.
EXPECTED = ("symmetric and normalized space", "infinity")


@pytest.mark.renders
@pytest.mark.parametrize(
    "env_id", ["dmc:cheetah-run", "dmc:lqr-lqr_6_2", "dmc:quadruped-escape", "dmc:finger-turn_hard"]
)
def test_environment_passes_gymnasiums_checker(monkeypatch, env_id):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setitem(DMControlEnv.metadata, "render_modes", ["rgb_array"])  # a window needs a display
    gc.collect()  # objects of earlier tests emit their warnings now
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)
        env = environments.make_env(env_id, "rgb_array").unwrapped
        check_env(env)
        env.close()
    messages = [str(warning.message) for warning in caught]
    assert [m for m in messages if not any(part in m for part in EXPECTED)] == []


@pytest.mark.renders
@pytest.mark.parametrize(
    "env_id", ["dmc:cheetah-run", "dmc:humanoid-walk", "dmc:quadruped-run", "dmc:dog-fetch", "dmc:quadruped-escape"]
)
def test_camera_follows_the_robot(monkeypatch, env_id):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    env = environments.make_env(env_id, "rgb_array")
    env.reset(seed=0)
    physics = env.unwrapped._env.physics
    physics.data.qpos[0] += 3.0
    for _ in range(3):
        env.step(env.action_space.low * 0)
    frame = env.render().astype(int)
    assert frame.shape == (480, 480, 3)
    assert frame.std() > 10
    model = physics.model
    model.geom_matid[model.geom_bodyid > 0] = -1
    model.geom_rgba[model.geom_bodyid > 0, 3] = 0
    model.skin_rgba[:, 3] = 0
    changed_pixels = (np.abs(frame - env.render()).sum(axis=-1) > 20).sum()
    env.close()
    assert changed_pixels > 1000  # of 230,400


def test_terrain_is_generated_without_opengl():
    env = environments.make_env("dmc:quadruped-escape")
    env.reset(seed=0)
    assert env.unwrapped._env.physics._contexts is None


@pytest.mark.parametrize(
    "env_id", ["dmc:cheetah-run", "dmc:cartpole-swingup", "dmc:quadruped-run", "dmc:lqr-lqr_2_1"]
)
def test_episode_lasts_a_thousand_steps(env_id):
    assert environments.make_env(env_id).spec.max_episode_steps == 1000


@pytest.mark.parametrize(("mode", "expected"), [("human", 3), (None, 0)])
def test_window_is_rendered_after_the_reset_and_each_step(monkeypatch, mode, expected):
    env = environments.make_env("dmc:pendulum-swingup").unwrapped
    calls = []
    monkeypatch.setattr(env, "render_mode", mode)
    monkeypatch.setattr(env, "render", lambda: calls.append(None))
    env.reset(seed=0)
    for _ in range(2):
        env.step(env.action_space.sample())
    assert len(calls) == expected


def test_envpool_mismatches_include_all_measured_ones():
    from dmc_parity import RESULT, same_task

    rows = json.loads(RESULT.read_text())
    assert set(rows) == set(dmc.list_env_ids())
    different = {env_id for env_id, row in rows.items() if not same_task(row)}
    assert different <= set(dmc.ENVPOOL_MISMATCHES)
    for env_id in ("dmc:finger-spin", "dmc:lqr-lqr_2_1"):
        assert env_id in dmc.ENVPOOL_MISMATCHES
        assert not isinstance(environments.make_vector_env(env_id, 1)._env, pool.EnvPoolVector)


@pytest.mark.parametrize("mode", ["human", "rgb_array"])
def test_window_shows_the_camera_of_the_task(monkeypatch, mode):
    made = []
    renderer = "gymnasium.envs.mujoco.mujoco_rendering.MujocoRenderer"
    monkeypatch.setattr(renderer, lambda model, data, config, **kwargs: made.append((config, kwargs)))
    env = DMControlEnv("cheetah-run", render_mode=mode)
    env._make_renderer()
    ((config, kwargs),) = made
    camera = {"type": mujoco.mjtCamera.mjCAMERA_FIXED, "fixedcamid": kwargs["camera_id"]}
    assert config == (camera if mode == "human" else None)  # in a window, the user can choose another one
