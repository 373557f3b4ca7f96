import re

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from milozero import environments
from milozero.environments import bundles, listing, pool
from milozero.environments.vector import VectorEnv, environment_action
from milozero.helpers.errors import UserError


def test_name_without_version_is_the_newest_and_a_version_stays():
    assert environments.resolve("Hopper") == "Hopper-v5"
    assert environments.resolve("CartPole") == "CartPole-v1"
    for version in ("Hopper-v3", "Hopper-v4", "Hopper-v5"):
        assert environments.resolve(version) == version


@pytest.mark.parametrize(("wrong", "near"), [("Hoper", "Hopper"), ("Hopper-v9", "Hopper-v5")])
def test_unknown_environment_names_near_ones(wrong, near):
    with pytest.raises(UserError, match=near):
        environments.resolve(wrong)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Hopper-v3", "Pendulum-v1", "CartPole-v1", "Acrobot-v1"])
def test_both_backends_keep_the_next_step_autoreset_contract(env_id):
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
    mode = gymnasium.vector.AutoresetMode.NEXT_STEP
    make = [lambda: environments.make_env(env_id)] * 3
    one = environments.make_env(env_id)
    vector = gymnasium.vector.SyncVectorEnv(make, autoreset_mode=mode)
    return VectorEnv(vector, one.observation_space, one.action_space, 3)


@pytest.mark.parametrize(
    "env_id", ["Ant-v3", "Humanoid-v3", "Humanoid-v4", "HumanoidStandup-v2", "HumanoidStandup-v4"]
)
def test_both_backends_observe_the_forces_of_contacts(env_id):
    """EnvPool leaves them at zero where it is not told otherwise."""
    felt = []
    for env in (environments.make_vector_env(env_id, 3), _gymnasium_vector(env_id)):
        env.reset([0, 1, 2])
        steps = [env.step(np.zeros((3, *env.action_shape)))[0].copy() for _ in range(60)]
        felt.append((np.concatenate(steps)[:, -84:] != 0).any())  # forces and torques of the bodies
        env.close()
    assert felt == [True, True]


def test_other_autoreset_modes_are_refused():
    make = [lambda: gymnasium.make("CartPole-v1")]
    vector = gymnasium.vector.SyncVectorEnv(make, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
    one = gymnasium.make("CartPole-v1")
    with pytest.raises(AssertionError):
        VectorEnv(vector, one.observation_space, one.action_space, 1)


def test_environment_gets_the_clipped_action():
    space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    np.testing.assert_array_equal(environment_action(np.array([-3.0, 0.5]), space), [-1.0, 0.5])


def test_seeds_belong_to_environments_not_to_workers():
    both = environments.make_vector_env("Hopper-v5", 2).reset([5, 6])
    second = environments.make_vector_env("Hopper-v5", 1).reset([6])
    np.testing.assert_array_equal(both[1], second[0])
    assert not np.array_equal(both[0], both[1])


BOX, CHOICE = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)
PICTURE = spaces.Box(0, 255, (8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("observation", "action", "named"),
    [
        (PICTURE, CHOICE, "pictures, of shape .8, 8, 3.; only vectors"),
        (spaces.Dict(camera=PICTURE, joints=BOX), CHOICE, "pictures"),
        (spaces.Box(0, 1, (3, 3)), CHOICE, "shape .3, 3.; only vectors"),
        (spaces.Dict(seen=spaces.Sequence(CHOICE)), CHOICE, "cannot be flattened"),
        (spaces.Graph(BOX, None), CHOICE, "cannot be flattened"),
        (BOX, spaces.Dict(first=BOX, second=BOX), "several agents"),
        (BOX, spaces.MultiDiscrete([2, 3]), "not supported; Box vectors and Discrete are"),
    ],
)
def test_unsupported_spaces_are_refused(observation, action, named, monkeypatch):
    made = _having(observation, action)
    monkeypatch.setitem(gymnasium.registry, "Odd-v0", gymnasium.envs.registration.EnvSpec("Odd-v0", lambda: made))
    with pytest.raises(UserError, match=f"Odd-v0: .*{named}"):
        environments.make_env("Odd-v0")


def _having(observation, action, first=None):
    env = gymnasium.Env()
    env.observation_space, env.action_space = observation, action
    env.reset = lambda seed=None, options=None: (observation.sample() if first is None else first, {})
    return env


@pytest.mark.parametrize(
    ("first", "named"),
    [
        (np.zeros(3), "shape .3,., its space .2,."),
        ("red", "no vector of numbers"),
        (np.array([0, np.nan]), "not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_first_observation_that_is_not_of_its_space_is_refused(first, named, monkeypatch):
    made = _having(BOX, CHOICE, first)
    spec = gymnasium.envs.registration.EnvSpec("Odd-v0", lambda: made, disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, "Odd-v0", spec)
    with pytest.raises(UserError, match=f"Odd-v0: .*{named}"):
        environments.make_vector_env("Odd-v0", 1)


def test_dictionaries_of_vectors_are_flattened_in_the_order_of_their_space():
    space = spaces.Dict({"b": BOX, "a": spaces.Discrete(3)})  # which sorts by name
    made = _having(space, CHOICE, {"b": np.array([0.5, -0.5]), "a": 1})
    env = gymnasium.wrappers.FlattenObservation(made)
    np.testing.assert_array_equal(env.reset()[0], [0, 1, 0, 0.5, -0.5])


@pytest.mark.parametrize(
    ("make", "named"),
    [(lambda: object(), "inherit"), (lambda needed: None, "missing 1 required positional argument: 'needed'")],
)
def test_what_gymnasium_cannot_make_is_one_line(make, named, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Odd-v0", gymnasium.envs.registration.EnvSpec("Odd-v0", make))
    with pytest.raises(UserError, match=named):
        environments.make_env("Odd-v0")


@pytest.mark.parametrize(
    ("env_id", "named"),
    [
        (":CartPole-v1", "cannot import ''"),
        ("leaves:X-v0", "SystemExit: 3"),
        ("no.such.module:X-v0", "No module named"),
    ],
)
def test_module_that_cannot_be_imported_is_one_line(env_id, named, monkeypatch, tmp_path):
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=named):
        environments.resolve(env_id)


def test_unknown_id_of_a_module_tells_what_it_registers(monkeypatch, tmp_path):
    code = "import gymnasium\nfor v in (2, 3):\n    gymnasium.register(f'Mine-v{v}', gymnasium.Env)\n"
    (tmp_path / "registers_two.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(UserError, match=r"'registers_two' registers Mine-v2, Mine-v3$"):
            environments.resolve("registers_two:Nope-v0")
    finally:
        for version in (2, 3):
            gymnasium.registry.pop(f"Mine-v{version}", None)


class Plain(gymnasium.Env):
    """Draws nothing."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)


class Asked(Plain):
    """Takes the mode, and does not say that it draws."""

    def __init__(self, render_mode=None):
        self.render_mode = render_mode


@pytest.mark.parametrize("kind", [Plain, Asked])
@pytest.mark.parametrize("mode", ["rgb_array", "human"])
def test_class_that_draws_nothing_is_one_line_that_tells_what_is_missing(kind, mode, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Odd-v0", gymnasium.envs.registration.EnvSpec("Odd-v0", kind))
    with pytest.raises(
        UserError, match=r"cannot be rendered: its class needs metadata = \{.render_modes.*render\(\)"
    ):
        environments.make_env("Odd-v0", mode)
    environments.make_env("Odd-v0").close()


def test_class_without_spaces_is_one_line(monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec("Odd-v0", gymnasium.Env)
    monkeypatch.setitem(gymnasium.registry, "Odd-v0", spec)
    with pytest.raises(UserError, match=r"cannot make Odd-v0: .*space"):
        environments.make_env("Odd-v0")


def test_errors_name_what_the_user_wrote_and_a_given_camera_stays():
    with pytest.raises(UserError, match=r"Hopper-v3 does not take --env_kwargs=.'speed': 3."):
        environments.make_env("Hopper-v3", None, {"speed": 3})
    given = environments.make_env("Hopper-v5", "rgb_array", {"camera_id": -1})
    assert given.unwrapped.mujoco_renderer.camera_id == -1


def test_what_an_environment_is_made_with_reaches_it_and_keeps_envpool_out():
    kwargs = {"terminate_when_unhealthy": False, "frame_skip": 2}
    one = environments.make_env("Hopper-v5", None, kwargs)
    assert one.unwrapped.frame_skip == 2
    vector = environments.make_vector_env("Hopper-v5", 2, kwargs)
    vector.reset([0, 1])
    ends = [vector.step(np.ones((2, 3)))[2].any() for _ in range(200)]
    assert not any(ends)
    for wrong in ({"speed": 3}, {"xml_file": "nowhere.xml"}, {"frame_skip": "two"}):
        with pytest.raises(UserError, match="Hopper-v5 does not take --env_kwargs"):
            environments.make_env("Hopper-v5", None, wrong)
    with pytest.raises(UserError, match="Hopper-v5 does not start with these --env_kwargs"):
        environments.make_vector_env("Hopper-v5", 1, {"reset_noise_scale": "loud"})


def test_every_id_belongs_to_one_family_and_resolves_to_itself():
    for name in environments.SUITES:
        get_suite = environments.get_suite(name)
        for env_id in listing.ids(name):
            assert environments.suite_for(env_id) is get_suite
            assert environments.resolve(env_id) == env_id


def test_bundles_name_environments_in_full():
    for purpose, members in bundles.BUNDLES.values():
        assert purpose
        assert [environments.resolve(env_id) for env_id in members] == list(members)
        assert len(set(members)) == len(members)


def test_list_says_what_is_usable_and_what_is_missing(capsys):
    listing.show("CartPole")
    told = capsys.readouterr().out
    assert "gymnasium" in told
    assert re.search(r"CartPole-v1 +4 +2 choices +500 +EnvPool +yes", told)
    assert re.search(r"phys2d/CartPole-v1 +no: .*jax", told)
    assert "Hopper" not in told
    with pytest.raises(UserError, match="CartPole"):
        listing.show("CartPol-v1")


def test_warnings_of_mujoco_go_to_the_log_alone(tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.chdir(tmp_path)
    environments.make_env("HalfCheetah-v5")  # its model uses a word that MuJoCo will drop
    assert capfd.readouterr() == ("", "")
    assert "deprecated" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.renders
def test_camera_follows_the_robot(monkeypatch):
    """A Hopper moved ten meters on is still in the middle of the picture."""
    monkeypatch.setenv("MUJOCO_GL", "egl")
    env = environments.make_env("Hopper-v5", "rgb_array")
    env.reset(seed=0)
    qpos, qvel = env.unwrapped.data.qpos.copy(), env.unwrapped.data.qvel.copy()
    qpos[0] += 10.0
    env.unwrapped.set_state(qpos, qvel)
    red, green, blue = np.moveaxis(env.render()[:, 180:300].astype(int), -1, 0)
    env.close()
    assert ((red > green + 30) & (green > blue)).sum() > 200  # its orange


@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1"])
def test_raw_calls_of_envpool_give_what_its_gymnasium_layer_gives(env_id):
    import envpool

    seeds = [3, 4, 5]
    raw = environments.suite_for(env_id).make_vector(env_id, 3, environments.make_env(env_id), {})
    assert isinstance(raw, pool.Pool)
    layered = envpool.make(env_id, env_type="gymnasium", num_envs=3, seed=seeds, num_threads=1)
    np.testing.assert_array_equal(raw.reset(seed=seeds)[0], layered.reset()[0])
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(200):
        actions = rng.integers(0, 2, 3) if env_id == "CartPole-v1" else rng.normal(size=(3, 3))
        mine, theirs = raw.step(actions), layered.step(actions)
        for left, right in zip(mine[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(left, right)
        ends += (mine[2] | mine[3]).sum()
    assert ends > 0
