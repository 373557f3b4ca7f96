"""How runs are grouped into methods and labeled."""

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


def test_seed_environment_name_and_launch_do_not_distinguish_methods():
    metadata = {"command": "a", "git_sha": "1", "run_id": "x", "mujoco": "3.17", "device": "cpu", "cuda": True}
    settings = {"seed": 1, "uuid": "b", "data_dir": "c", "wandb_project": "d", "compile": True, "eval_frequency": 9}
    assert labels(run(), run(**metadata), run(**settings), run(env_id="Ant-v5")) == ["ppo"]


def test_label_lists_varying_settings_and_methods_are_sorted_by_their_values():
    runs = [run(gamma=g, p_lr=lr) for g in (0.99, 0.9) for lr in (1e-3, 1e-10)]
    assert labels(*runs) == [
        *("ppo p_lr=1e-10 gamma=0.9", "ppo p_lr=1e-10 gamma=0.99"),
        *("ppo p_lr=0.001 gamma=0.9", "ppo p_lr=0.001 gamma=0.99"),
    ]


def test_workers_lengths_and_environment_settings_distinguish_methods():
    assert labels(run(num_workers=2), run(num_workers=10)) == ["ppo num_workers=2", "ppo num_workers=10"]
    assert labels(run(num_timesteps=1e6), run(num_timesteps=2_000_000)) == [
        "ppo num_timesteps=1e6",
        "ppo num_timesteps=2e6",
    ]
    assert labels(run(env_kwargs="a=1"), run(env_kwargs="")) == ["ppo env_kwargs=none", "ppo env_kwargs=a=1"]


def test_two_spellings_of_a_value_are_the_same_method():
    assert labels(run(env_kwargs="a=1,b=true"), run(env_kwargs="b=true, a=1")) == ["ppo"]
    assert labels(run(gamma=default_values("ppo")["gamma"]), run()) == ["ppo"]  # metadata older than the setting


def test_settings_that_differ_only_between_environments_do_not_distinguish_methods():
    short, long = run(num_timesteps=1000), run(env_id="Ant-v5", num_timesteps=9000)
    assert labels(short, long) == ["ppo"]
    assert labels(short, long, run(num_timesteps=1000, clip_range=0.1)) == [
        *("ppo clip_range=0.1", "ppo clip_range=0.2")
    ]


def test_each_algorithm_is_a_method_even_if_unknown():
    assert labels(run(), run(algo="dreamer", horizon=15), run(algo="dreamer", rollout_len=7)) == [
        *("dreamer rollout_len=7", "dreamer rollout_len=none", "ppo")
    ]


def test_settings_of_another_algorithm_are_ignored():
    assert labels(run(reward_scale=1), run(reward_scale=2)) == ["ppo"]


def test_invalid_values_are_kept():
    assert labels(run(gamma=[1]), run(gamma=None), run(gamma="x")) == [
        "ppo gamma=none",
        "ppo gamma=[1]",
        "ppo gamma=x",
    ]
    assert labels(run(env_kwargs="="), run()) == ["ppo env_kwargs=none", "ppo env_kwargs=="]


def trial(number, prefix="s", **settings):
    return run(f"{prefix}.trial{number:03}.seed00", **settings)


def test_trials_that_differ_in_many_settings_are_labeled_by_number():
    drawn = [{"p_lr": 3.0 - i, "gamma": i / 4, "clip_range": 0.1 + i, "epochs": 1 + i} for i in range(3)]
    trials = methods.group_methods([trial(i, **settings) for i, settings in enumerate(drawn)])
    assert [m.label for m in trials] == ["ppo trial000", "ppo trial001", "ppo trial002"]
    assert trials[1].full_label == "ppo p_lr=2 epochs=2 gamma=0.25 clip_range=1.1"
    other = trial(0, prefix="t", p_lr=9.0)
    spelled_out = labels(*[trial(i, **settings) for i, settings in enumerate(drawn)], other)  # two trials named 000
    assert all("trial" not in label for label in spelled_out)
    assert len(spelled_out) == 4


def test_methods_that_differ_in_many_settings_are_labeled_by_what_is_not_usual():
    usual = {"gamma": 0.9, "epochs": 4, "p_lr": 1e-3, "clip_range": 0.2}
    changed = [{}, {"gamma": 0.8}, {"epochs": 5}, {"p_lr": 1e-4}, {"clip_range": 0.1, "gamma": 0.8}]
    found = methods.group_methods([run(f"r{i}", **usual | change) for i, change in enumerate(changed)])
    assert {method.label for method in found} == {
        "ppo",
        "ppo gamma=0.8",
        "ppo epochs=5",
        "ppo p_lr=0.0001",
        "ppo gamma=0.8 clip_range=0.1",
    }
    (usual_one,) = (method for method in found if method.label == "ppo")
    assert set(usual_one.full_label.split()) == {"ppo", "gamma=0.9", "epochs=4", "p_lr=0.001", "clip_range=0.2"}


def test_trials_that_differ_in_few_settings_are_labeled_by_them():
    assert labels(trial(0, clip_range=0.1), trial(1, clip_range=0.2)) == ["ppo clip_range=0.1", "ppo clip_range=0.2"]


@pytest.mark.parametrize(
    ("value", "expected"),
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
def test_values_are_formatted_as_people_write_them(value, expected):
    assert methods.format_value(value) == expected


def test_environments_are_in_natural_order():
    runs = [run(env_id=e) for e in ("Walker2d-v5", "Ant-v10", "Ant-v5", "dmc:b", "10", "9x")]
    assert methods.list_environments(runs) == ["9x", "10", "Ant-v5", "Ant-v10", "dmc:b", "Walker2d-v5"]


def test_demonstrations_distinguish_methods_of_algorithms_that_learn_from_them(monkeypatch):
    runs = [run(num_demos=4, expert_path="a"), run(num_demos=16, expert_path="a")]
    assert labels(*runs) == ["ppo"]
    monkeypatch.setattr(RewardModelPPOConfig, "LEARNS_FROM_DEMOS", True)
    assert labels(*runs) == ["ppo num_demos=4", "ppo num_demos=16"]
