"""The jobs of a study: environments, seeds, demonstrations and sweeps."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from milozero.agents import AGENTS
from milozero.demonstrations.dataset import Episode, write_demo
from milozero.environments.bundles import BUNDLES
from milozero.evaluation.loading import Teachers
from milozero.experiment.command_line import parse
from milozero.helpers.errors import UserError
from milozero.studies.config import ARGS_METHODS, StudyConfig
from milozero.studies.folder import check_study_name
from milozero.studies.jobs import Job, build_jobs, draw_trials
from milozero.studies.launchers.job_script import build_arguments
from tests.support import ROOT


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "task file.yaml"
    path.write_text("num_timesteps: 1e4\nexecution_time: 1:30:00\nnormalize_rewards: false\nnum_iters: 3\n")
    return str(path)


def build_study(task, tmp_path, **more):
    return StudyConfig(config=task, data_dir=str(tmp_path / "its data"), prefix="it's a study", **more)


def test_jobs_are_environments_times_seeds(task, tmp_path):
    jobs = build_jobs(build_study(task, tmp_path, num_seeds=3))
    members = BUNDLES["debug"][1]
    assert [(job.settings.train.env_id, job.settings.common.seed) for job in jobs] == [
        (env_id, seed) for env_id in members for seed in range(3)
    ]
    assert len({job.name for job in jobs}) == len(jobs)
    assert jobs[1].name == "it's a study.InvertedPendulum-v5.seed01"
    assert jobs[0].settings.train.num_timesteps == 10_000


def test_environments_can_be_named_instead_of_a_bundle(task, tmp_path):
    jobs = build_jobs(build_study(task, tmp_path, env_bundle="Hopper, Walker2d-v4,Hopper-v5"))
    assert [job.name for job in jobs] == ["it's a study.Hopper-v5.seed00", "it's a study.Walker2d-v4.seed00"]


def test_task_file_names_its_bundle(task, tmp_path):
    with Path(task).open("a") as file:
        file.write("meta:\n  benchmark: humanoid\n")
    envs = [job.settings.train.env_id for job in build_jobs(build_study(task, tmp_path))]
    assert envs == ["Humanoid-v5", "HumanoidStandup-v5"]
    jobs = build_jobs(build_study(task, tmp_path, env_bundle="Hopper"))
    assert [job.settings.train.env_id for job in jobs] == ["Hopper-v5"]


def test_environment_sections_apply_only_to_their_jobs(task, tmp_path):
    with Path(task).open("a") as file:
        file.write("environments:\n  Hopper:\n    gamma: 0.5\n")
    jobs = build_jobs(build_study(task, tmp_path))
    assert [job.settings.agent.gamma for job in jobs] == [0.99, 0.5]


@pytest.mark.parametrize("name", ["humanoids", "[debug, humanoid]"])
def test_unknown_bundle_is_an_error(task, tmp_path, name):
    with Path(task).open("a") as file:
        file.write(f"benchmark: {name}\n")
    with pytest.raises(UserError, match=r"task file.yaml: benchmark: no bundle '.*humanoid"):
        build_jobs(build_study(task, tmp_path))


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").glob("*.yaml")), ids=lambda p: p.stem)
def test_task_files_of_the_repository_are_valid(path, tmp_path):
    study = build_study(str(path), tmp_path, sweep="[" in path.read_text())
    expert = [f"--expert_path={one_demo(tmp_path)}"] if path.stem.endswith(("_gail", "_dac")) else []
    settings = parse([f"--config={path}", *expert], draw_trials(study)[0])
    assert settings.train.benchmark or "env_id" in settings.explicit


@pytest.mark.parametrize("algo", AGENTS)
@pytest.mark.parametrize("method", ARGS_METHODS)
def test_every_args_method_gives_the_same_settings(task, tmp_path, monkeypatch, method, algo):
    monkeypatch.setattr("milozero.evaluation.loading.load_teachers", lambda *_: Teachers())  # there is no file
    own = {
        "ppo": "gamma: 0.99",
        "bc": "bc_loss: mse",
        "gail": "d_lr: 1e-3",
        "airl": "d_steps: 2",
        "dagger": "expert_model: data/checkpoints/expert",
        "sac": "learning_starts: 1000",
        "td3": "learning_starts: 1000",
        "dac": "learning_starts: 1000\ndac_agent: sac",
        "sqil": "learning_starts: 1000\nexpert_mix: 0.3",
        "iq": "learning_starts: 1000\niq_alpha: 0.25",
    }
    scales_rewards = algo in ("ppo", "gail", "airl")
    lines = [line for line in Path(task).read_text().splitlines() if scales_rewards or "rewards" not in line]
    Path(task).write_text("\n".join([*lines, f"algo: {algo}", own[algo]]) + "\n")
    for job in build_jobs(build_study(task, tmp_path, demo_dir=one_demo(tmp_path), wandb_project="pro ject")):
        path = tmp_path / "settings of a job.yaml"
        path.write_text(yaml.safe_dump(job.to_dict(), sort_keys=False))
        args = build_arguments(job, method, path)
        read = parse(args)
        same = dataclasses.replace(read.common, config=task)
        assert dataclasses.replace(read, common=same, explicit=job.settings.explicit) == job.settings
    if method == "minimal":
        assert not any(argument.startswith("--gamma") for argument in args)
    if method == "full" and scales_rewards:
        assert "--gamma=0.99" in args
        assert "--no-normalize_rewards" in args


def test_algorithms_settings_are_accepted_wherever_algo_is_set(task, tmp_path):
    expert = f"--expert_path={one_demo(tmp_path)}/Hopper-v5"
    with open(task, "a") as file:
        file.write("d_lr: 1e-3\n")
    for argv in (["--algo=gail"], ["--algo", "gail"]):
        assert parse([*argv, "--d_lr=0.1", expert]).agent.d_lr == 0.1
        assert parse([*argv, f"--config={task}", expert]).agent.d_lr == 1e-3
        assert parse([*argv, "--config", task, expert]).agent.d_lr == 1e-3
    assert parse([f"--config={task}", expert], {"algo": "gail"}).agent.d_lr == 1e-3
    with pytest.raises(UserError, match="d_lr"):
        parse([f"--config={task}"])
    with pytest.raises(UserError, match="d_lr"):
        parse(["--d_lr=0.1"])
    with pytest.raises(UserError, match="--algo"):
        parse(["--d_lr=0.1", "--algo"])
    with pytest.raises(UserError, match="learns from demonstrations"):
        parse(["--algo=bc"])


def test_minibatch_larger_than_a_rollout_is_an_error_if_it_is_drawn_from_one(tmp_path):
    expert = f"--expert_path={one_demo(tmp_path)}/Hopper-v5"
    parse(["--algo=bc", "--batch_size=4096", expert])
    for flag in ("batch_size", "d_batch_size"):
        with pytest.raises(UserError, match=f"--{flag}=4096 is larger than --rollout_len"):
            parse(["--algo=gail", f"--{flag}=4096", expert])


def test_off_policy_algorithms_use_demonstrations_as_told(tmp_path):
    expert = f"--expert_path={one_demo(tmp_path)}/Hopper-v5"
    parse(["--algo=sac", "--expert_mix=0.5", "--n_step=3", expert])
    with pytest.raises(
        UserError, match=r"--algo=sac with --expert_mix=0\.5 learns from demonstrations: --expert_path="
    ):
        parse(["--algo=sac", "--expert_mix=0.5"])
    for share, size in ((0.01, 8), (0.9, 4)):
        message = rf"--expert_mix={share}: a batch of --batch_size={size} needs steps of the expert and"
        with pytest.raises(UserError, match=message):
            parse(["--algo=td3", f"--expert_mix={share}", f"--batch_size={size}", expert])
    for algo in ("dac", "sqil", "iq"):
        with pytest.raises(UserError, match=f"--n_step=3: --algo={algo} supports only 1"):
            parse([f"--algo={algo}", "--n_step=3", expert])
        with pytest.raises(UserError, match=f"--algo={algo} learns from demonstrations"):
            parse([f"--algo={algo}"])
    with pytest.raises(UserError, match="--d_absorbing needs a --gamma below 1"):
        parse(["--algo=dac", "--gamma=1", expert])


def test_absorbing_states_need_discounting(tmp_path):
    expert = f"--expert_path={one_demo(tmp_path)}/Hopper-v5"
    for algo in ("gail", "airl"):
        parse([f"--algo={algo}", "--d_absorbing", expert])
        with pytest.raises(UserError, match="--d_absorbing needs a --gamma below 1"):
            parse([f"--algo={algo}", "--d_absorbing", "--gamma=1", expert])


def test_job_is_restored_from_its_dict(task, tmp_path):
    for job in build_jobs(build_study(task, tmp_path)):
        again = Job.from_dict(job.name, json.loads(json.dumps(job.to_dict())), "/here")
        assert (again.to_dict(), again.num_workers) == (job.to_dict(), 2)


def one_demo(tmp_path):
    """Make a folder of demonstrations for each environment of the debug bundle."""
    for env_id, observation, action in (("InvertedPendulum-v5", 4, 1), ("Hopper-v5", 11, 3)):
        for number in range(2):
            episode = Episode(np.zeros((3, observation)), np.zeros((2, action)), np.zeros(2), True, False)
            path = tmp_path / "demos" / env_id / f"{number}.h5"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_demo(path, episode, {"env_id": env_id})
    return str(tmp_path / "demos")


def test_each_number_of_demonstrations_is_a_job(task, tmp_path, monkeypatch):
    one_demo(tmp_path)
    monkeypatch.chdir(tmp_path)
    jobs = build_jobs(build_study(task, tmp_path, num_demos=(1, 2), demo_dir="demos", num_seeds=2))
    assert len(jobs) == 2 * 2 * 2
    assert jobs[-1].name == "it's a study.Hopper-v5.demos02.seed01"
    imitation = jobs[-1].settings.imitation
    assert (imitation.num_demos, imitation.expert_path) == (2, f"{tmp_path}/demos/Hopper-v5")


def test_too_many_jobs_are_an_error(task, tmp_path, monkeypatch):
    one_demo(tmp_path)
    study = build_study(task, tmp_path, num_demos=(1, 2), demo_dir=str(tmp_path / "demos"), num_seeds=2)
    monkeypatch.setattr("milozero.studies.jobs.MAX_JOBS", 8)
    assert len(build_jobs(study)) == 8
    monkeypatch.setattr("milozero.studies.jobs.MAX_JOBS", 7)
    with pytest.raises(UserError, match="the study has 8 jobs; the maximum is 7"):
        build_jobs(study)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"num_demos": (1,)}, "--num_demos requires --demo_dir"),
        ({"num_demos": (1, 1), "demo_dir": "demos"}, "--num_demos: duplicate number"),
        ({"num_demos": (3,), "demo_dir": "demos"}, "--num_demos=3, but .*InvertedPendulum-v5 contains 2"),
        ({"demo_dir": "nowhere"}, "nowhere/InvertedPendulum-v5: no such folder"),
        ({"demo_dir": "demos", "env_bundle": "mujoco_small"}, "demos/HalfCheetah-v5: no such folder"),
    ],
)
def test_missing_demonstrations_are_an_error(task, tmp_path, monkeypatch, more, message):
    one_demo(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        build_jobs(build_study(task, tmp_path, **more))


@pytest.mark.parametrize("line", ["algo: dagger\nexpert_model: nowhere\n", "reward_path: nowhere\n"])
def test_missing_teacher_is_an_error(task, tmp_path, line):
    Path(task).write_text(line)
    flag = line.split()[-2].rstrip(":")
    with pytest.raises(UserError, match=f"--{flag}=/.*nowhere"):
        build_jobs(build_study(task, tmp_path))
    assert not (tmp_path / "its data").exists()


def test_demonstrations_of_another_environment_are_an_error(task, tmp_path):
    one_demo(tmp_path)
    shutil.rmtree(tmp_path / "demos/Hopper-v5")
    (tmp_path / "demos/Hopper-v5").symlink_to(tmp_path / "demos/InvertedPendulum-v5")
    with pytest.raises(UserError, match=r"observations and actions have shapes \(4,\)"):
        build_jobs(build_study(task, tmp_path, demo_dir=f"{tmp_path}/demos"))


@pytest.mark.parametrize(
    ("flag", "line", "workers"), [(None, "", 2), (None, "num_workers: 4\n", 4), (3, "num_workers: 4\n", 3)]
)
def test_num_workers_of_the_command_line_overrides_the_task_file(tmp_path, flag, line, workers):
    path = tmp_path / "task.yaml"
    path.write_text(f"gamma: 0.9\n{line}")
    assert {job.num_workers for job in build_jobs(build_study(str(path), tmp_path, num_workers=flag))} == {workers}


def test_project_of_the_command_line_overrides_the_task_file_and_the_study(task, tmp_path):
    def project(**more):
        return build_jobs(build_study(task, tmp_path, **more), project="fallback")[0].settings.tracking.wandb_project

    assert project() == "fallback"
    assert project(wandb_project="mine") == "mine"
    with open(task, "a") as file:
        file.write("wandb_project: from the file\n")
    assert project() == "from the file"


def test_study_name_that_is_no_valid_project_is_an_error(task, tmp_path):
    with pytest.raises(UserError, match="--wandb_project=50%: Weights & Biases does not allow % in a name"):
        build_jobs(build_study(task, tmp_path), project="50%")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p_lrr: 1\n", "did you mean 'p_lr'"),
        ("gamma: 2\n", "at most 1"),
        ("task: eval\nmodel_path: x\n", "--env_id belongs to --task=train"),
        ("rpo_alpha: 0.5\nenvironments:\n  CartPole:\n    gamma: 2\n", "gamma"),
        ("rpo_alpha: 0.5\n", "--rpo_alpha=0.5 needs continuous actions"),
        ("rpo_alpha: 0.5\ntarget_kl: 0.02\n", "--target_kl cannot be combined with --rpo_alpha"),
    ],
)
def test_study_whose_jobs_could_not_start_is_an_error(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        build_jobs(build_study(str(path), tmp_path, env_bundle="Hopper,CartPole"))
    assert not (tmp_path / "its data").exists()


@pytest.fixture
def choices(tmp_path):
    path = tmp_path / "choices.yaml"
    path.write_text("p_lr: [1e-4, 3e-4]\nclip_range: [0.1, 0.2, 0.3]\ngamma: 0.9\n")
    return str(path)


def sampled(study):
    return [(job.settings.agent.p_lr, job.settings.agent.clip_range) for job in build_jobs(study)]


def test_sweep_draws_each_combination_once_for_all_environments_and_seeds(choices, tmp_path):
    study = build_study(choices, tmp_path, sweep=True, num_trials=6, num_seeds=2)
    jobs = build_jobs(study)
    assert len(jobs) == 6 * 2 * len(BUNDLES["debug"][1])
    assert len(set(sampled(study))) == 6  # all combinations
    for trial in range(6):
        same = [j.settings.agent for j in jobs if f".trial{trial:03}." in j.name]
        assert len(same) == 4
        assert set(same) == {same[0]}


def test_sweep_depends_on_its_seed_and_extends_a_shorter_one(choices, tmp_path):
    six, three = (build_study(choices, tmp_path, sweep=True, num_trials=n) for n in (6, 3))
    assert list(dict.fromkeys(sampled(six)))[:3] == list(dict.fromkeys(sampled(three)))
    orders = {
        tuple(sampled(build_study(choices, tmp_path, sweep=True, num_trials=6, sweep_seed=s))) for s in range(5)
    }
    assert len(orders) > 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sweep": True, "num_trials": 7}, "has 6 combinations"),
        ({"num_trials": 3}, "requires --sweep"),
        ({}, "p_lr is a list of choices; only spawner.py --sweep can draw from it"),
    ],
)
def test_invalid_sweep_is_an_error(choices, tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        build_jobs(build_study(choices, tmp_path, **more))


def test_sweep_without_lists_is_an_error(task, tmp_path):
    with pytest.raises(UserError, match="has no list to draw from"):
        build_jobs(build_study(task, tmp_path, sweep=True))


@pytest.mark.parametrize("prefix", ["a/b", "..", "", "x" * 300])
def test_name_that_cannot_be_a_folder_is_an_error(prefix):
    with pytest.raises(UserError, match="--prefix"):
        check_study_name(prefix)
