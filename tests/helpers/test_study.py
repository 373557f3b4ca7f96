import dataclasses

import pytest
import yaml

from environments.bundles import BUNDLES
from helpers import study as studies
from helpers.errors import UserError
from helpers.experiment import parse
from helpers.study import StudyConfig


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "task file.yaml"
    path.write_text("num_timesteps: 1e4\nexecution_time: 1:30:00\nnormalize_rewards: false\nnum_iters: 3\n")
    return str(path)


def study_of(task, tmp_path, **more):
    return StudyConfig(config=task, data_dir=str(tmp_path / "its data"), prefix="it's a study", **more)


def test_jobs_are_environments_times_seeds(task, tmp_path):
    jobs = studies.jobs_of(study_of(task, tmp_path, num_seeds=3))
    members = BUNDLES["debug"][1]
    assert [(job.settings.train.env_id, job.settings.common.seed) for job in jobs] == [
        (env_id, seed) for env_id in members for seed in range(3)
    ]
    assert len({job.name for job in jobs}) == len(jobs)
    assert jobs[1].name == "it's a study.InvertedPendulum-v5.seed01"
    assert jobs[0].settings.train.num_timesteps == 10_000


@pytest.mark.parametrize("method", ["full", "yaml", "minimal"])
def test_every_method_gives_the_same_settings(task, tmp_path, method):
    study = study_of(task, tmp_path, args_method=method)
    jobs = studies.jobs_of(study)
    folder = studies.write(study, jobs)
    for job in jobs:
        args = studies.arguments(job, method, folder / f"{job.name}.yaml")
        read = parse(args)
        same = dataclasses.replace(read.common, config=task)
        assert dataclasses.replace(read, common=same, given=job.settings.given) == job.settings
    if method == "minimal":
        assert not any(argument.startswith("--gamma") for argument in args)
    if method == "full":
        assert "--gamma=0.99" in args
        assert "--no-normalize_rewards" in args


def test_script_survives_quotes_and_spaces(task, tmp_path):
    study = study_of(task, tmp_path)
    (job, *_) = studies.jobs_of(study)
    text = studies.script(job, studies.arguments(job, "minimal", tmp_path))
    assert text.startswith("#!/usr/bin/env bash\nset -euo pipefail\ncd ")
    assert "exec mpiexec -n 2 python main.py --seed=0 " in text
    assert """'--uuid=it'"'"'s a study.InvertedPendulum-v5.seed00'""" in text


def test_yaml_method_keeps_the_settings_beside_the_script(task, tmp_path):
    study = study_of(task, tmp_path, args_method="yaml")
    folder = studies.write(study, studies.jobs_of(study))
    assert folder == tmp_path / "its data" / "spawn" / "it's a study"
    assert yaml.safe_load((folder / "it's a study.Hopper-v5.seed00.yaml").read_text())["env_id"] == "Hopper-v5"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("p_lrr: 1\n", "did you mean 'p_lr'"),
        ("gamma: 2\n", "at most 1"),
        ("task: eval\nmodel_path: x\n", "--env_id belongs to --task=train"),
    ],
)
def test_study_whose_jobs_would_not_start_is_refused(tmp_path, text, named):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=named):
        studies.jobs_of(study_of(str(path), tmp_path))
    assert not (tmp_path / "its data").exists()


@pytest.fixture
def choices(tmp_path):
    path = tmp_path / "choices.yaml"
    path.write_text("p_lr: [1e-4, 3e-4]\nclip: [0.1, 0.2, 0.3]\ngamma: 0.9\n")
    return str(path)


def drawn_by(study):
    return [(job.settings.agent.p_lr, job.settings.agent.clip) for job in studies.jobs_of(study)]


def test_sweep_draws_no_combination_twice_and_each_for_all_environments_and_seeds(choices, tmp_path):
    study = study_of(choices, tmp_path, sweep=True, num_trials=6, num_seeds=2)
    jobs = studies.jobs_of(study)
    assert len(jobs) == 6 * 2 * len(BUNDLES["debug"][1])
    assert len(set(drawn_by(study))) == 6  # all there are
    for trial in range(6):
        same = [j.settings.agent for j in jobs if f".trial{trial:03}." in j.name]
        assert len(same) == 4
        assert set(same) == {same[0]}


def test_sweep_is_determined_by_its_seed_and_goes_on_where_a_shorter_one_ended(choices, tmp_path):
    six, three = (study_of(choices, tmp_path, sweep=True, num_trials=n) for n in (6, 3))
    assert list(dict.fromkeys(drawn_by(six)))[:3] == list(dict.fromkeys(drawn_by(three)))
    orders = {tuple(drawn_by(study_of(choices, tmp_path, sweep=True, num_trials=6, sweep_seed=s))) for s in range(5)}
    assert len(orders) > 1


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"sweep": True, "num_trials": 7}, "has 6 combinations"),
        ({"num_trials": 3}, "needs --sweep"),
        ({}, "p_lr is a list of choices, which spawner.py --sweep draws from"),
    ],
)
def test_sweep_that_cannot_be_is_refused(choices, tmp_path, more, named):
    with pytest.raises(UserError, match=named):
        studies.jobs_of(study_of(choices, tmp_path, **more))


def test_sweep_over_nothing_is_refused(task, tmp_path):
    with pytest.raises(UserError, match="no list to draw from"):
        studies.jobs_of(study_of(task, tmp_path, sweep=True))


@pytest.mark.parametrize("prefix", ["a/b", "..", "x" * 300])
def test_name_that_is_no_folders_is_refused(prefix):
    with pytest.raises(UserError, match="--prefix"):
        studies.check(StudyConfig(prefix=prefix))
