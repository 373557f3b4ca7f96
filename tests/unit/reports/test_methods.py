from pathlib import Path

import pytest

from milozero.agents.ppo_config import RewardModelPPOConfig
from milozero.experiment.resume import default_values
from milozero.reports import methods
from milozero.reports.runs import Run


def run(name="r", env_id="Hopper-v5", algo="ppo", **settings):
    return Run(name, {"env_id": env_id, "algo": algo, **settings}, "finished", "", Path("log.txt"))


def labels(*runs):
    return [method.label for method in methods.group_methods(runs)]


def test_seed_environment_name_and_launch_tell_no_methods_apart():
    facts = {"command": "a", "git_sha": "1", "run_id": "x", "mujoco": "3.17", "device": "cpu", "cuda": True}
    settings = {"seed": 1, "uuid": "b", "data_dir": "c", "wandb_project": "d", "compile": True, "eval_frequency": 9}
    assert labels(run(), run(**facts), run(**settings), run(env_id="Ant-v5")) == ["ppo"]


def test_label_names_the_settings_that_vary_in_their_order_numbers_by_size():
    runs = [run(gamma=g, p_lr=lr) for g in (0.99, 0.9) for lr in (1e-3, 1e-10)]
    assert labels(*runs) == [
        *("ppo p_lr=1e-10 gamma=0.9", "ppo p_lr=1e-10 gamma=0.99"),
        *("ppo p_lr=0.001 gamma=0.9", "ppo p_lr=0.001 gamma=0.99"),
    ]


def test_workers_lengths_and_the_environments_own_settings_count():
    assert labels(run(num_workers=2), run(num_workers=10)) == ["ppo num_workers=2", "ppo num_workers=10"]
    assert labels(run(num_timesteps=1e6), run(num_timesteps=2_000_000)) == [
        "ppo num_timesteps=1e6",
        "ppo num_timesteps=2e6",
    ]
    assert labels(run(env_kwargs="a=1"), run(env_kwargs="")) == ["ppo env_kwargs=none", "ppo env_kwargs=a=1"]


def test_two_ways_to_write_the_same_are_the_same():
    assert labels(run(env_kwargs="a=1,b=true"), run(env_kwargs="b=true, a=1")) == ["ppo"]
    assert labels(run(gamma=default_values("ppo")["gamma"]), run()) == ["ppo"]  # a record older than the setting


def test_what_differs_from_environment_to_environment_tells_no_methods_apart():
    short, long = run(num_timesteps=1000), run(env_id="Ant-v5", num_timesteps=9000)
    assert labels(short, long) == ["ppo"]
    assert labels(short, long, run(num_timesteps=1000, clip=0.1)) == ["ppo clip=0.1", "ppo clip=0.2"]


def test_algorithms_are_methods_and_unknown_ones_are_not_lost():
    assert labels(run(), run(algo="dreamer", horizon=15), run(algo="dreamer", rollout_len=7)) == [
        *("dreamer rollout_len=7", "dreamer rollout_len=none", "ppo"),
    ]


def test_settings_of_another_algorithm_are_left_out():
    assert labels(run(reward_scale=1), run(reward_scale=2)) == ["ppo"]


def test_broken_values_are_still_values():
    assert labels(run(gamma=[1]), run(gamma=None), run(gamma="x")) == [
        "ppo gamma=none",
        "ppo gamma=[1]",
        "ppo gamma=x",
    ]
    assert labels(run(env_kwargs="="), run()) == ["ppo env_kwargs=none", "ppo env_kwargs=="]


def trial(number, prefix="s", **settings):
    return run(f"{prefix}.trial{number:03}.seed00", **settings)


def test_trials_that_differ_in_many_settings_are_called_by_number():
    drawn = [{"p_lr": 3.0 - i, "gamma": i / 4, "clip": 0.1 + i, "epochs": 1 + i} for i in range(3)]
    found = methods.group_methods([trial(i, **settings) for i, settings in enumerate(drawn)])
    assert [m.label for m in found] == ["ppo trial000", "ppo trial001", "ppo trial002"]
    assert found[1].full_label == "ppo p_lr=2 epochs=2 gamma=0.25 clip=1.1"
    other = trial(0, prefix="t", p_lr=9.0)
    spelled = labels(*[trial(i, **settings) for i, settings in enumerate(drawn)], other)  # 000 is not one trial
    assert all("trial" not in label for label in spelled)
    assert len(spelled) == 4


def test_trials_that_differ_in_few_settings_are_called_by_these():
    assert labels(trial(0, clip=0.1), trial(1, clip=0.2)) == ["ppo clip=0.1", "ppo clip=0.2"]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (True, "true"),
        (None, "none"),
        ("", "none"),
        (3e-4, "0.0003"),
        (1e-5, "1e-5"),
        (64, "64"),
        (10_000_000, "1e7"),
        ("tanh", "tanh"),
    ],
)
def test_values_are_spelled_as_people_write_them(value, wanted):
    assert methods.spelled(value) == wanted


def test_environments_are_sorted_with_numbers_by_size():
    runs = [run(env_id=e) for e in ("Walker2d-v5", "Ant-v10", "Ant-v5", "dmc:b", "10", "9x")]
    assert methods.environments_of(runs) == ["9x", "10", "Ant-v5", "Ant-v10", "dmc:b", "Walker2d-v5"]


def test_demonstrations_tell_methods_apart_where_they_are_learned_from(monkeypatch):
    runs = [run(num_demos=4, expert_path="a"), run(num_demos=16, expert_path="a")]
    assert labels(*runs) == ["ppo"]
    monkeypatch.setattr(RewardModelPPOConfig, "LEARNS_FROM_DEMOS", True)
    assert labels(*runs) == ["ppo num_demos=4", "ppo num_demos=16"]
