"""Compare EnvPool, which runs the training environments, with the simulators used for evaluation.

Both draw their initial states from the same random stream and then receive the same actions. EnvPool is built with
another version of MuJoCo, and contacts are chaotic. If observations contain the full state, the evaluation
environment therefore adopts EnvPool's state after each step: each comparison covers a single step.
"""

import gymnasium
import numpy as np
import pytest
from dmc_parity import StdRandom

from milozero import environments
from milozero.environments import dmc, listing, mujoco, registered, registry
from milozero.environments.dm_control_env import DMControlEnv
from milozero.environments.pool import EnvPoolVector, has_task, import_envpool

STEPS = 205  # past the time limits of 50, 100 and 200
SEEDS = [3, 4, 5, 6]
UNUSED = {"Reacher": 2, "Pusher": 4}  # numbers that gymnasium draws for the target or the object, and discards
WITH_CONTACTS = {"Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "Pusher", "Walker2d"} | {
    f"dmc:{domain}"
    for domain in ("cheetah", "dog", "hopper", "humanoid", "humanoid_CMU", "manipulator", "quadruped", "walker")
}
FIXED_LENGTH = {"HalfCheetah", "Swimmer", "HumanoidStandup"}  # episodes last 1000 steps, like dm_control's

# Tolerances, relative to the largest value of an observed number or to the reward, or absolute if those are below 1.
# EnvPool's rewards are float32.
OBS_TOLERANCE, REWARD_TOLERANCE = 1e-4, 1e-5
# The solver's 50 iterations do not converge on these tasks, and some of gymnasium's own steps diverge as far if
# velocities are perturbed by 1e-6. These tolerances hold for 99 % of the steps.
UNCONVERGED = {"Humanoid": (1e-2, 2e-3), "HumanoidStandup": (1e-2, 2e-3)}
# Steps before contacts make dm_control tasks diverge whose observations lack part of the state. The dog's paws are
# meshes, whose contact points differ in EnvPool's MuJoCo.
CHAOTIC = {"dmc:dog": 25, "dmc:humanoid": 60, "dmc:humanoid_CMU": 60}
LENGTHS = {"CartPole-v1": 505, "dmc:humanoid-run_pure_state": STEPS}  # a time limit of 500; the full state


class EnvPoolRandom(StdRandom):
    """EnvPool's random stream, to replace gymnasium's.

    Args:
        seed: seed of the stream.
        unused: number of the last positions and velocities that EnvPool does not draw.
    """

    def __init__(self, seed, unused):
        super().__init__(seed)
        self._unused = unused
        self._normals = []

    def uniform(self, low=0.0, high=1.0, size=None):
        if not self._unused or size in (None, 1, 2):
            return super().uniform(low, high, size)
        return np.append(super().uniform(low, high, size - self._unused), np.zeros(self._unused))

    def standard_normal(self, size):
        return np.array([self._normal() for _ in range(size)])

    def _normal(self):
        """Draw with Marsaglia's polar method, which keeps its second number for the next call."""
        while not self._normals:
            x, y = 2 * self._one() - 1, 2 * self._one() - 1
            radius = x * x + y * y
            if 0 < radius <= 1:
                self._normals = [c * np.sqrt(-2 * np.log(radius) / radius) for c in (x, y)]
        return self._normals.pop()


class EvaluationEnv:
    """An evaluation environment that starts in EnvPool's initial state and can adopt its later states."""

    def __init__(self, env_id, seed, options):
        self._env = environments.make_env(env_id, None, options)
        bare = self._env.unwrapped
        self._physics = None
        if isinstance(bare, DMControlEnv):
            bare._env.task._random = StdRandom(seed)
            self._physics = bare._env.physics
            self._data = self._physics.data
        else:
            bare.np_random = EnvPoolRandom(seed, UNUSED.get(base_name(env_id), 0))
            self._data = getattr(bare, "data", None)
        self.num_contacts = 0  # number of steps that end with a contact
        self._done = False

    def reset(self):
        self._done = False
        return self._env.reset()[0]

    def step(self, action):
        """Step, or reset after the end of an episode, as a vector environment does."""
        if self._done:
            return self.reset(), 0.0, False, False
        row = self._env.step(action)[:4]
        self._done = row[2] or row[3]
        self.num_contacts += self._data is not None and self._data.ncon > 0
        return row

    def adopt_state(self, env_obs, pool_obs):
        """Adopt the positions and velocities in EnvPool's observation, if observations contain them.

        Only dm_control recomputes derived quantities. In gymnasium and EnvPool, they are those at the start of the
        last step.
        """
        if self._data is None:
            return
        nq, state = len(self._data.qpos), np.concatenate([self._data.qpos, self._data.qvel])
        for hidden in range(min(3, nq)):  # the position on the floor
            if np.array_equal(env_obs[: len(state) - hidden], state[hidden:]):
                self._data.qpos[hidden:] = pool_obs[: nq - hidden]
                self._data.qvel[:] = pool_obs[nq - hidden : len(state) - hidden]
                if self._physics is not None:
                    self._physics.forward()


def base_name(env_id):
    return env_id.rpartition("-")[0]


def list_cases():
    """Yield (id, options) of the tasks that EnvPool steps, also without termination of fallen robots."""
    for env_id in registry.list_env_ids():
        # For dm_control, the test checks that EnvPool steps the task: creating every environment here takes seconds.
        if env_id.startswith("dmc:"):
            if env_id not in dmc.ENVPOOL_MISMATCHES and has_task(dmc.to_envpool_name(env_id)):
                yield pytest.param(env_id, {}, id=env_id)
        elif has_task(env_id) and listing.inspect_env(env_id).trains_with == "EnvPool":
            yield pytest.param(env_id, {}, id=env_id)
            if "terminate_when_unhealthy" in import_envpool().make_spec(env_id)._config_keys:
                yield pytest.param(env_id, {"terminate_when_unhealthy": False}, id=f"{env_id}-lying")


CASES = list(list_cases())
COMMON = {"Ant-v5", "CartPole-v1", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v4", "Walker2d-v5"}  # tested most often


class Policy:
    """Four ways to act: random, random for ten steps at a time, zero, and at full strength.

    In classic control, the last one follows the sign of the last observed number, a speed: so the cars arrive.
    """

    def __init__(self, env_id, space):
        self._is_classic = environments.find_suite(env_id) is registry.get_suite("gymnasium")
        self._space = space
        self._rng = np.random.default_rng(1)
        self._steps = 0

    def __call__(self, obs):
        if isinstance(self._space, gymnasium.spaces.Discrete):
            low, high = 0, int(self._space.n) - 1
            drawn = self._rng.integers(low, high + 1, len(SEEDS))
        else:
            low, high = self._space.low, self._space.high
            # few digits, because gymnasium computes with float32 actions, and EnvPool does not
            drawn = np.trunc(self._rng.uniform(low, high, (len(SEEDS), *low.shape)) * 64).astype(np.float32) / 64
        if self._steps % 10 == 0:
            self._held = drawn
        self._steps += 1
        forward = obs[3, -1] > 0 if self._is_classic else self._held[3] > 0
        return np.stack([drawn[0], self._held[1], np.zeros_like(drawn[2]), np.where(forward, high, low)])[: len(obs)]


def run_both(env_id, options, steps, seeds):
    """Return both sides' observations (2, T+1, N, O), rewards and ends (2, T, N), and the evaluation environments."""
    vector = environments.make_vector_env(env_id, len(seeds))
    assert isinstance(vector._env, EnvPoolVector)
    vector._env._options |= options
    evaluated = [EvaluationEnv(env_id, seed, options) for seed in seeds]
    policy = Policy(env_id, vector.action_space)
    obs = [[vector.reset(seeds).copy()], [np.array([env.reset() for env in evaluated])]]
    rewards, ends = [[], []], [[], []]
    for _ in range(steps):
        actions = policy(obs[0][-1]).astype(vector.action_dtype)
        pool_step = [array.copy() for array in vector.step(vector.converter.to_policy(actions))]
        env_step = list(map(np.array, zip(*map(EvaluationEnv.step, evaluated, actions), strict=True)))
        for env, env_obs, pool_obs in zip(evaluated, env_step[0], pool_step[0], strict=True):
            env.adopt_state(env_obs, pool_obs)
        for side, (after, reward, terminated, truncated) in enumerate((pool_step, env_step)):
            obs[side].append(after)
            rewards[side].append(reward)
            ends[side].append(terminated + 2 * truncated)
    vector.close()
    return np.array(obs), np.array(rewards), np.array(ends), evaluated


def steps_apart(values, scale):
    """Return the distance per step between EnvPool's values and the evaluation's, stacked as (2, T, ...)."""
    distance = np.abs(values[0] - values[1]) / np.maximum(1.0, scale)
    return distance.max(axis=-1) if distance.ndim > 2 else distance


def compare(env_id, options, steps=STEPS):
    """Return whether both simulate the same task, their differences, whether an episode ended, and contact counts."""
    name = base_name(env_id)
    steps = LENGTHS.get(env_id, CHAOTIC.get(name, steps))
    rows = 1 if name == "dmc:dog" else 2 if env_id.startswith("dmc:") else 4  # dm_control's models load slowly
    obs, rewards, ends, evaluated = run_both(env_id, options, steps, SEEDS[:rows])
    share = 0.99 if name in UNCONVERGED else 1.0
    largest = (
        np.quantile(steps_apart(obs, np.abs(obs[1]).max(axis=(0, 1))), share),
        np.quantile(steps_apart(rewards, np.abs(rewards[1])), share),
    )
    starts = steps_apart(obs[:, :1], 1.0).max()
    differences = {
        "start": starts,
        "observations": largest[0],
        "rewards": largest[1],
        "other ends": (ends[0] != ends[1]).sum(),
    }
    limits = UNCONVERGED.get(name, (OBS_TOLERANCE, REWARD_TOLERANCE))
    same = starts < 1e-7 and largest[0] < limits[0] and largest[1] < limits[1] and not differences["other ends"]
    return same, differences, bool(ends.any()), [env.num_contacts for env in evaluated]


def check(env_id, options):
    """Fail unless both simulate the same task, and contacts and ends of episodes occur where expected."""
    same, differences, ended, num_contacts = compare(env_id, options)
    print(env_id, options, differences)
    assert same, differences
    assert all(num_contacts) if base_name(env_id) in WITH_CONTACTS else not any(num_contacts)
    assert ended != (base_name(env_id) in FIXED_LENGTH or env_id.startswith("dmc:") or bool(options))


def check_differs(env_id, options, monkeypatch):
    """Fail if no difference is found although `options` replace the settings that make both equal."""
    monkeypatch.setitem(mujoco.ENVPOOL_OPTIONS, env_id, options)
    monkeypatch.setattr(registered, "ENVPOOL_MISMATCHES", {})
    monkeypatch.setattr(dmc, "ENVPOOL_MISMATCHES", {})
    same, differences, *_ = compare(env_id, {}, steps=80)
    assert not same, differences
