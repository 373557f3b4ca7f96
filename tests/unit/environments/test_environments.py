"""Creating environments by id: suites, autoreset, spaces, errors and bundles."""

import re
import sys

import gymnasium
import numpy as np
import pytest
from rich.console import Console

from milozero import environments
from milozero.environments import bundles, listing, pool, registry
from milozero.environments.serial import SerialVector
from milozero.environments.vector import VectorEnv
from milozero.helpers.errors import UserError
from tests.support import ROOT, user_envs


def test_name_without_version_resolves_to_the_newest():
    assert environments.resolve("Hopper") == "Hopper-v5"
    assert environments.resolve("CartPole") == "CartPole-v1"
    for version in ("Hopper-v3", "Hopper-v4", "Hopper-v5"):
        assert environments.resolve(version) == version


@pytest.mark.parametrize(("wrong", "suggestion"), [("Hoper", "Hopper"), ("Hopper-v9", "Hopper-v5")])
def test_unknown_id_suggests_similar_ones(wrong, suggestion):
    with pytest.raises(UserError, match=suggestion):
        environments.resolve(wrong)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Hopper-v3", "Pendulum-v1", "CartPole-v1", "Acrobot-v1"])
def test_both_backends_use_next_step_autoreset(env_id):
    for env in (environments.make_vector_env(env_id, 3), _gymnasium_vector(env_id)):
        env.reset([0, 1, 2])
        before = np.zeros(3, bool)
        ends = 0
        rng = np.random.default_rng(0)
        for _ in range(600):
            actions = rng.integers(0, 2, 3) if env.discrete else rng.normal(size=(3, *env.action_shape)) * 3
            obs, reward, terminated, truncated = env.step(actions)
            assert (reward[before] == 0).all()
            before = terminated | truncated
            ends += before.sum()
            assert obs.shape == (3, env.observation_size)
        assert ends > 2
        env.close()


def _gymnasium_vector(env_id):
    envs = [environments.make_env(env_id) for _ in range(3)]
    return VectorEnv(SerialVector(envs), envs[0].observation_space, envs[0].action_space, 3)


@pytest.mark.parametrize(
    "env_id", ["Ant-v3", "Humanoid-v3", "Humanoid-v4", "HumanoidStandup-v2", "HumanoidStandup-v4"]
)
def test_both_backends_observe_contact_forces(env_id):
    """EnvPool leaves them at zero by default."""
    nonzero = []
    for env in (environments.make_vector_env(env_id, 3), _gymnasium_vector(env_id)):
        env.reset([0, 1, 2])
        steps = [env.step(np.zeros((3, *env.action_shape)))[0].copy() for _ in range(60)]
        nonzero.append((np.concatenate(steps)[:, -84:] != 0).any())  # forces and torques of the bodies
        env.close()
    assert nonzero == [True, True]


@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1"])
def test_users_class_under_a_known_id_is_what_trains(monkeypatch, env_id):
    make = type(gymnasium.make(env_id).unwrapped)

    class Mine(make):
        def step(self, action):
            obs, _, *rest = super().step(action)
            return obs, 123.0, *rest

    spec = gymnasium.envs.registration.EnvSpec(
        env_id, Mine, max_episode_steps=gymnasium.spec(env_id).max_episode_steps
    )
    monkeypatch.setitem(gymnasium.registry, env_id, spec)
    env = environments.make_vector_env(env_id, 2)
    env.reset([0, 1])
    assert env.step(np.zeros((2, *env.action_shape), env.action_dtype))[1].tolist() == [123.0, 123.0]


def test_seed_belongs_to_an_environment_not_to_a_worker():
    both = environments.make_vector_env("Hopper-v5", 2).reset([5, 6])
    second = environments.make_vector_env("Hopper-v5", 1).reset([6])
    np.testing.assert_array_equal(both[1], second[0])
    assert not np.array_equal(both[0], both[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: object(), "inherit"), (lambda needed: None, "missing 1 required positional argument: 'needed'")],
)
def test_failed_make_is_a_one_line_error(make, message, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Odd-v0", gymnasium.envs.registration.EnvSpec("Odd-v0", make))
    with pytest.raises(UserError, match=message):
        environments.make_env("Odd-v0")


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        (":CartPole-v1", "cannot import ''"),
        ("my_env.py:X-v0", "name the module, not its file: my_env:<id>"),
        ("leaves:X-v0", "SystemExit: 3"),
        ("no.such.module:X-v0", "--env_id=no.such.module:X-v0: .*No module named .*; add .* to PYTHONPATH"),
    ],
)
def test_failed_module_import_is_a_one_line_error(env_id, message, monkeypatch, tmp_path):
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=message):
        environments.import_module_of(env_id, f"--env_id={env_id}", "data")


def test_error_for_an_unknown_id_names_the_form_of_a_users_own():
    with pytest.raises(UserError, match="your own are named module:Env-v0, with module"):
        environments.resolve("Xyzzy-v0")


def test_module_in_the_working_directory_is_found_and_hides_no_other(monkeypatch, tmp_path):
    (tmp_path / "here_alone.py").write_text("import gymnasium\ngymnasium.register('Here-v0', gymnasium.Env)\n")
    (tmp_path / "gymnasium.py").write_text("raise ImportError('not me')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for env_id in ("here_alone:Here-v0", "gymnasium:CartPole-v1"):
        environments.import_module_of(env_id, f"--env_id={env_id}", "data")
        assert environments.resolve(env_id) == env_id
    others = [path for path in sys.path if path != str(ROOT)]  # which is searched after all others
    assert others[-1] == str(tmp_path)


def test_unknown_id_of_a_module_lists_the_ids_it_registers(monkeypatch, tmp_path):
    code = "import gymnasium\nfor v in (2, 3):\n    gymnasium.register(f'Mine-v{v}', gymnasium.Env)\n"
    (tmp_path / "registers_two.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    environments.import_module("registers_two", "--env_module=registers_two", "data")
    try:
        with pytest.raises(UserError, match=r"'registers_two' registers Mine-v2, Mine-v3$"):
            environments.resolve("registers_two:Nope-v0")
    finally:
        for version in (2, 3):
            gymnasium.registry.pop(f"Mine-v{version}", None)


class Plain(gymnasium.Env):
    """Has no rendering."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)


class NoModes(Plain):
    """Takes a render mode, but declares none in its metadata."""

    def __init__(self, render_mode=None):
        self.render_mode = render_mode


@pytest.mark.parametrize("kind", [Plain, NoModes])
@pytest.mark.parametrize("mode", ["rgb_array", "human"])
def test_class_without_rendering_is_a_one_line_error(kind, mode, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Odd-v0", gymnasium.envs.registration.EnvSpec("Odd-v0", kind))
    with pytest.raises(
        UserError, match=r"cannot be rendered: its class needs metadata = \{.render_modes.*render\(\)"
    ):
        environments.make_env("Odd-v0", mode)
    environments.make_env("Odd-v0").close()


def test_class_without_spaces_is_a_one_line_error(monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec("Odd-v0", gymnasium.Env)
    monkeypatch.setitem(gymnasium.registry, "Odd-v0", spec)
    with pytest.raises(UserError, match=r"cannot make Odd-v0: .*space"):
        environments.make_env("Odd-v0")


def test_error_names_the_users_id_and_camera_kwargs_are_kept():
    with pytest.raises(UserError, match=r"Hopper-v3 does not accept --env_kwargs=.'speed': 3."):
        environments.make_env("Hopper-v3", None, {"speed": 3})
    given = environments.make_env("Hopper-v5", "rgb_array", {"camera_id": -1})
    assert given.unwrapped.mujoco_renderer.camera_id == -1


def test_env_kwargs_reach_the_environment_and_disable_envpool():
    kwargs = {"terminate_when_unhealthy": False, "frame_skip": 2}
    one = environments.make_env("Hopper-v5", None, kwargs)
    assert one.unwrapped.frame_skip == 2
    vector = environments.make_vector_env("Hopper-v5", 2, kwargs)
    vector.reset([0, 1])
    ends = [vector.step(np.ones((2, 3)))[2].any() for _ in range(200)]
    assert not any(ends)
    for wrong in ({"speed": 3}, {"xml_file": "nowhere.xml"}, {"frame_skip": "two"}):
        with pytest.raises(UserError, match="Hopper-v5 does not accept --env_kwargs"):
            environments.make_env("Hopper-v5", None, wrong)
    with pytest.raises(UserError, match="Hopper-v5 cannot be reset with these --env_kwargs"):
        environments.make_vector_env("Hopper-v5", 1, {"reset_noise_scale": "loud"})


def test_every_id_belongs_to_one_suite_and_resolves_to_itself():
    for name in registry.SUITES:
        suite = registry.get_suite(name)
        for env_id in listing.filter_env_ids(name):
            assert environments.find_suite(env_id) is suite
            assert environments.resolve(env_id) == env_id


def test_bundles_contain_full_ids_without_duplicates():
    for purpose, members in bundles.BUNDLES.values():
        assert purpose
        assert [environments.resolve(env_id) for env_id in members] == list(members)
        assert len(set(members)) == len(members)


def test_list_shows_usable_environments_and_missing_packages(capsys):
    listing.show("CartPole")
    output = capsys.readouterr().out
    assert "gymnasium" in output
    assert re.search(r"CartPole-v1 +4 +2 discrete +500 +EnvPool +yes", output)
    assert re.search(r"phys2d/CartPole-v1 +no *$", output, re.MULTILINE)
    assert re.search(r"^phys2d/CartPole-v1: .*jax", output, re.MULTILINE)
    assert "Hopper" not in output
    with pytest.raises(UserError, match="CartPole"):
        listing.show("CartPol-v1")


def test_list_fits_80_columns():
    infos = [
        listing.EnvInfo("InvertedDoublePendulum-v5", "9", "1 in [-1, 1]", "1000", "EnvPool", ""),
        listing.EnvInfo("Humanoid-v5", "348", "17 in [-0.4, 0.4]", "1000", "SerialVector", ""),
        listing.EnvInfo("Pusher-v4", "", "", "", "", "`Pusher-v4` needs MuJoCo 2"),
    ]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(listing._make_table(infos))
    lines = [line.split() for line in captured.get().splitlines()[-3:]]
    assert lines[0] == ["InvertedDoublePendulum-v5", "9", "1", "in", "[-1,", "1]", "1000", "EnvPool", "yes"]
    assert lines[1] == ["Humanoid-v5", "348", "17", "in", "[-0.4,", "0.4]", "1000", "SerialVector", "yes"]
    assert lines[2] == ["Pusher-v4", "no"]


@pytest.mark.parametrize(
    ("env_id", "size", "action"),
    [
        ("Choices-v0", "4", "6 discrete"),
        ("Matrix-v0", "2", "4 in [-0.3, 0.1]"),
        ("Scalar-v0", "1", "1 in [100, 300]"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_list_shows_the_environments_units_of_uncommon_spaces(env_id, size, action):
    assert env_id in user_envs.CHECKED_SPACES  # registered
    info = listing.inspect_env(env_id)
    assert (info.observation, info.action, info.problem) == (size, action, "")


def test_mujoco_warnings_are_only_logged(tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.chdir(tmp_path)
    environments.make_env("HalfCheetah-v5")  # its model uses a deprecated keyword
    assert capfd.readouterr() == ("", "")
    assert "deprecated" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.renders
def test_camera_follows_the_robot(monkeypatch):
    """A Hopper moved by 10 m is still in the center of the frame."""
    monkeypatch.setenv("MUJOCO_GL", "egl")
    env = environments.make_env("Hopper-v5", "rgb_array")
    env.reset(seed=0)
    qpos, qvel = env.unwrapped.data.qpos.copy(), env.unwrapped.data.qvel.copy()
    qpos[0] += 10.0
    env.unwrapped.set_state(qpos, qvel)
    red, green, blue = np.moveaxis(env.render()[:, 180:300].astype(int), -1, 0)
    env.close()
    assert ((red > green + 30) & (green > blue)).sum() > 200  # the Hopper is orange


@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1"])
def test_raw_envpool_calls_match_its_gymnasium_layer(env_id):
    import envpool

    seeds = [3, 4, 5]
    raw = environments.find_suite(env_id).make_vector(env_id, 3, environments.make_env(env_id), {})
    assert isinstance(raw, pool.EnvPoolVector)
    layered = envpool.make(env_id, env_type="gymnasium", num_envs=3, seed=seeds, num_threads=1)
    raw.seed(seeds)
    np.testing.assert_array_equal(raw.reset(), layered.reset()[0])
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(200):
        actions = rng.integers(0, 2, 3) if env_id == "CartPole-v1" else rng.normal(size=(3, 3))
        ours, reference = raw.step(actions), layered.step(actions)
        for left, right in zip(ours, reference[:4], strict=True):
            np.testing.assert_array_equal(left, right)
        ends += (ours[2] | ours[3]).sum()
    assert ends > 0
