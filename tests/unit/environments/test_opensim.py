"""The OpenSim environments with the real simulator; tests/system/test_opensim_published.py compares the tasks."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from milozero import environments
from milozero.environments import registry
from milozero.environments.opensim import installation, stick_figure
from milozero.environments.opensim.simulator import PRESETS, Preset, SimulationError, Simulator
from milozero.environments.opensim.suite import TASKS
from milozero.helpers.errors import UserError
from tests.support import ROOT
from tests.support.suites import make_unwrapped

ARM = "OsimArm2D-v0"


def test_ids_resolve_to_the_newest_version():
    assert environments.resolve("OsimArm2D") == ARM
    assert environments.resolve("OsimProsthetics") == "OsimProsthetics-v1"
    assert environments.resolve("OsimProsthetics-v0") == "OsimProsthetics-v0"
    assert environments.find_suite("OsimLab.envs:Walker-v0") is registry.get_suite("gymnasium")
    for wrong in ("OsimArm3D", "OsimArm2D-v7", "Osim"):
        with pytest.raises(UserError, match="Osim"):
            environments.resolve(wrong)


@pytest.mark.parametrize(
    ("model", "coordinates", "muscles", "mass"),
    [
        ("arm2dof6musc", 2, 6, 3.398887),
        ("gait9dof18musc", 10, 18, 79.6646),
        ("gait14dof22musc_pros_20180507", 17, 19, 72.17025),
        ("gait14dof22musc_planar_20170320", 17, 22, 75.1646),
        ("gait14dof22musc_20170320", 17, 22, 75.1646),
    ],
)
def test_models_match_the_published_ones(model, coordinates, muscles, mass):
    loaded = Simulator(model)
    assert (len(loaded.coordinates), len(loaded.muscles)) == (coordinates, muscles)
    assert loaded.mass == pytest.approx(mass, abs=1e-4)


@pytest.mark.parametrize(("env_id", "limit"), zip(TASKS, (200, 1000, 300, 1000, 2500, 2500), strict=True))
def test_episodes_last_as_long_as_published(env_id, limit):
    env = environments.make_env(env_id)
    assert limit == env.unwrapped.MAX_CONTROL_STEPS
    assert limit == env.spec.max_episode_steps  # TimeLimit does not truncate earlier


def test_arm_has_the_documented_joint_limits():
    limits = make_unwrapped(ARM).JOINT_LIMITS_DEG
    assert limits == {"r_shoulder_elev": (-90, 180), "r_elbow_flex": (0, 130)}  # degrees


@pytest.mark.parametrize(
    ("env_id", "observation", "actions"),
    zip(TASKS, (16, 41, 160, 163, 339, 339), (6, 18, 19, 19, 22, 22), strict=True),
)
@pytest.mark.filterwarnings("ignore:.*infinity")
def test_environments_pass_gymnasiums_checker(env_id, observation, actions):
    env = environments.make_env(env_id, "rgb_array").unwrapped
    check_env(env)
    assert env.observation_space.shape == (observation,) == (len(set(env.names)),)
    assert env.action_space.shape == (actions,)
    env.reset(seed=0)
    first = env.render()
    for _ in range(5):
        env.step(np.ones(actions))
    last = env.render()
    assert first.shape == last.shape == (480, 640, 3)
    for color in (stick_figure.BONE_COLOR, stick_figure.ACTIVE_COLOR):
        masks = [np.abs(frame[30:].astype(int) - color).max(axis=-1) < 50 for frame in (first, last)]
        assert masks[1].sum() > 100
        assert (masks[0] != masks[1]).any()


@pytest.mark.parametrize("env_id", TASKS)
def test_seed_determines_the_episode(env_id):
    env = make_unwrapped(env_id, frame_skip=5)
    actions = np.random.default_rng(0).uniform(0, 1, (3, *env.action_space.shape))

    def episode(seed):
        first, _ = env.reset(seed=seed)
        return np.concatenate([first, *(env.step(action)[0] for action in actions)])

    once = episode(3)
    other = episode(4)
    np.testing.assert_array_equal(episode(3), once)
    random_targets = env_id != "OsimL2Run-v0" and env_id != "OsimProsthetics-v0"
    late = env_id == "OsimProsthetics-v1"  # the first target is always the same
    if random_targets and not late:
        assert not np.array_equal(other, once)
    if late:
        env.reset(seed=3)
        targets = env.targets
        env.reset(seed=4)
        assert not np.array_equal(env.targets, targets)


def test_free_fall_has_the_acceleration_of_gravity():
    model = Simulator("gait9dof18musc")
    model.reset({"pelvis_ty": 5.0})
    before = model.center_of_mass()[1][1]
    for _ in range(20):
        model.step(np.full(18, 0.1))
    acceleration = (before - model.center_of_mass()[1][1]) / 0.2
    assert acceleration == pytest.approx(9.81, abs=0.01)


@pytest.mark.parametrize("model", ["gait9dof18musc", "gait14dof22musc_20170320"])
def test_fast_integrator_is_accurate_enough(model, monkeypatch):
    monkeypatch.setitem(PRESETS, "exact", Preset("RungeKuttaMerson", 1e-7, 1e-8))
    poses = []
    for preset in ("train", "exact"):
        loaded = Simulator(model, preset)
        loaded.reset()
        for excitations in np.random.default_rng(0).uniform(0, 1, (40, len(loaded.muscles))):
            loaded.step(excitations)
        poses.append([loaded.value(name) for name in loaded.coordinates])
    assert np.abs(np.subtract(*poses)).max() < 5e-3


def test_excitations_are_clipped_and_must_be_finite():
    env = make_unwrapped(ARM)
    after = {}
    for value in (1.0, 50.0):
        env.reset(seed=0)
        after[value] = env.step(np.full(6, value))[0]
    np.testing.assert_array_equal(after[1.0], after[50.0])
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            env.step(np.array([bad, 0, 0, 0, 0, 0]))
    with pytest.raises(ValueError, match="muscles"):
        env.step(np.zeros(5))


def test_zero_excitations_keep_activations_positive():
    model = Simulator("arm2dof6musc")
    model.reset()
    for _ in range(30):
        model.step(np.zeros(6))
    names = model.model.getStateVariableNames()
    state = model.model.getStateVariableValues(model.state)
    activations = [state.get(i) for i in range(names.getSize()) if names.get(i).endswith("activation")]
    assert min(activations) > 0.009


@pytest.mark.parametrize("env_id", ["OsimL2Run-v0", ARM])
def test_unphysical_speeds_truncate_with_the_last_valid_observation(env_id):
    env = environments.make_env(env_id, "rgb_array").unwrapped
    first, _ = env.reset(seed=0)
    frame = env.render()
    model = env.simulator
    for coordinate in list(model.coordinates)[:2]:
        model.coordinates[coordinate].setSpeedValue(model.state, 1e6)
    started = time.process_time()
    obs, reward, terminated, truncated, info = env.step(np.zeros(env.action_space.shape))
    assert time.process_time() - started < 5.0  # even on a slow machine
    assert (terminated, truncated) == (False, True)
    assert info["simulation_failed"]
    assert reward == 0.0
    np.testing.assert_array_equal(obs, first)
    np.testing.assert_array_equal(env.render(), frame)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(env.action_space.shape))
    env.reset(seed=0)
    assert not env.step(np.zeros(env.action_space.shape))[3]


def test_failure_during_frame_skip_keeps_the_earlier_rewards(monkeypatch):
    env = make_unwrapped(ARM, frame_skip=4)
    env.reset(seed=0)
    calls = []

    def breaks(excitations, step=env.simulator.step):
        calls.append(1)
        if len(calls) == 3:
            raise SimulationError("diverged")
        step(excitations)

    monkeypatch.setattr(env.simulator, "step", breaks)
    _, reward, _, truncated, info = env.step(np.zeros(6))
    assert truncated
    assert info["simulation_failed"] == "diverged"
    assert 1.0 < reward < 2.0  # the sum of two steps


def test_frame_skip_equals_repeated_actions():
    single, skipping = make_unwrapped("OsimL2Run-v0"), make_unwrapped("OsimL2Run-v0", frame_skip=4)
    single.reset(seed=0)
    skipping.reset(seed=0)
    action = np.full(18, 0.3)
    steps = [single.step(action) for _ in range(4)]
    obs, reward, *_ = skipping.step(action)
    np.testing.assert_array_equal(obs, steps[-1][0])
    assert reward == pytest.approx(sum(step[1] for step in steps))
    assert skipping.metadata["render_fps"] == 25
    made = environments.make_env("OsimL2Run-v0", None, {"frame_skip": 3})
    assert made.spec.max_episode_steps == 334
    suite = registry.get_suite("opensim")
    assert suite.max_replay_steps({"frame_skip": 10}) * 10 == suite.max_replay_steps({})
    for invalid in ("10", 0):  # the environment refuses them later
        assert suite.max_replay_steps({"frame_skip": invalid}) == suite.max_replay_steps({})


def test_time_limit_truncates_and_a_fall_terminates():
    env = make_unwrapped(ARM, frame_skip=50)
    env.reset(seed=0)
    ends = [env.step(np.full(6, 0.1))[2:4] for _ in range(4)]
    assert ends == [(False, False)] * 3 + [(False, True)]
    env = make_unwrapped("OsimL2Run-v0", frame_skip=20)
    env.reset(seed=0)
    while True:
        _, _, terminated, truncated, _ = env.step(np.zeros(18))
        if terminated or truncated:
            break
    assert (terminated, truncated) == (True, False)
    assert env.simulator.value("pelvis_ty") < 0.6


def test_arm_joints_stay_in_range():
    env = make_unwrapped(ARM)
    env.reset(seed=0)
    lowest = 0.0
    for _ in range(60):
        env.step(np.array([1.0, 1.0, 1.0, 0, 0, 0]))  # only the triceps, which extends the elbow
        lowest = min(lowest, np.rad2deg(env.simulator.value("r_elbow_flex")))
    assert -15 < lowest < 0


def test_arm_passes_the_angle_at_which_the_published_model_fails():
    env = make_unwrapped(ARM)
    env.reset(seed=0)
    env.simulator.reset({"r_shoulder_elev": 0.45}, {"r_shoulder_elev": 3.0})
    lengths = []
    for _ in range(8):
        assert not env.step(np.full(6, 0.1))[3]
        muscle = env.simulator.muscles["BIClong"]
        lengths.append(muscle.getGeometryPath().getLength(env.simulator.state))
    assert np.abs(np.diff(lengths)).max() < 2e-3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"preset": "acurate"}, "accurate"),
        ({"frame_skip": 0}, "frame_skip"),
        ({"frame_skip": 2.5}, "frame_skip"),
        ({"speed": 3}, "speed"),
    ],
)
def test_invalid_env_kwargs_are_named(kwargs, message):
    with pytest.raises(UserError, match=message):
        environments.make_env(ARM, None, kwargs)


@pytest.mark.parametrize("name", ["opensim", "osim"])
def test_missing_opensim_is_reported_with_the_install_command(name, monkeypatch):
    real = installation.importlib.util.find_spec
    monkeypatch.setattr(installation.importlib.util, "find_spec", lambda n: None if n == name else real(n))
    assert environments.resolve("OsimArm2D") == ARM
    with pytest.raises(UserError, match="make setup"):
        environments.make_env(ARM)


def run_steps(seed, queue=None):
    env = make_unwrapped(ARM, frame_skip=10)
    env.reset(seed=seed)
    end = [env.step(np.full(6, 0.4))[0] for _ in range(3)][-1]
    if queue is not None:
        queue.put(end)
    return end


def test_simulators_are_independent_of_forks_and_each_other():
    expected = run_steps(5)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=run_steps, args=(5, queue))
    process.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected)
    process.join()
    pair = [make_unwrapped(ARM, frame_skip=10), make_unwrapped(ARM, frame_skip=10)]
    for env, seed in zip(pair, (5, 6), strict=True):
        env.reset(seed=seed)
    for _ in range(3):
        ends = [env.step(np.full(6, 0.4))[0] for env in pair]
    np.testing.assert_array_equal(ends[0], expected)


def test_resets_do_not_leak_memory():
    env = make_unwrapped(ARM, frame_skip=5)

    def run_episodes(episodes):
        for seed in range(episodes):
            env.reset(seed=seed)
            env.step(np.full(6, 0.3))
        return resident_bytes()

    before = run_episodes(30)
    assert run_episodes(100) - before < 5e6


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_nothing_is_printed_or_logged_to_a_file(tmp_path):
    program = (
        "from milozero import environments; e = environments.make_env('OsimL2Run-v0');"
        "e.reset(seed=0); e.step([0.5] * 18)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cpu", "variable", "kernel"),
    [
        ("flags: avx avx2 fma", None, "Haswell"),
        ("flags: avx fma", None, None),
        ("flags: avx avx2 fma", "Zen", "Zen"),  # the user's choice
        (None, None, None),
        (None, "Zen", "Zen"),
    ],
)
def test_opensim_computes_with_the_same_kernel_on_all_processors(monkeypatch, tmp_path, cpu, variable, kernel):
    info = tmp_path / "cpuinfo"
    if cpu is not None:
        info.write_text(cpu)
    (tmp_path / "opensim.py").write_text("import os\nKERNEL = os.environ.get('OPENBLAS_CORETYPE')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "opensim", None)  # restored after the test
    del sys.modules["opensim"]
    monkeypatch.setattr(installation, "Path", lambda _: info)
    monkeypatch.setenv("OPENBLAS_CORETYPE", variable or "")
    if variable is None:
        monkeypatch.delenv("OPENBLAS_CORETYPE")
    assert kernel == installation.import_opensim().KERNEL
    assert os.environ.get("OPENBLAS_CORETYPE") == variable
