"""``--init_from``: start a run from the checkpoint of another one."""

import re
import shutil

import pytest
import torch
import yaml

from milozero.experiment import checkpoint
from tests.support import ROOT
from tests.support.one_run import QUICK

CARTPOLE = ("--task=train", *QUICK, "--num_iters=1")
INIT = "--init_from=data/checkpoints/run"  # PPO on CartPole, six iterations


def load(tmp_path, name, file="last"):
    return checkpoint.load(tmp_path / f"data/checkpoints/{name}/{file}.pt")


def test_cloned_policy_starts_ppo_and_a_resumed_run_needs_no_source(milozero, tmp_path):
    hopper = ("--task=train", "--env_id=Hopper-v5", "--num_envs=2", "--rollout_len=256", "--no-compile")
    hopper = (*hopper, "--eval_episodes=1", "--eval_frequency=1")
    demos = (f"--expert_path={ROOT / 'data/demos/Hopper-v5'}", "--num_demos=1", "--epochs=1")
    assert milozero(*hopper, "--algo=bc", *demos, "--num_iters=2", "--uuid=cloned").returncode == 0
    tune = (*hopper, "--epochs=2", "--uuid=tuned", "--init_from=data/checkpoints/cloned", "--init_iter_num=last")
    result = milozero(*tune, "--num_iters=2", "--p_lr=0")
    assert result.returncode == 0, result.stderr
    line = (
        r"initialized from data/checkpoints/cloned/last\.pt \(bc on Hopper-v5, iteration 2\): policy \(standard "
        r"deviation 0\.\d+ to 0\.\d+\), observation normalizer; from scratch: value network, reward normalizer\n"
    )
    assert re.search(line, result.stdout), result.stdout
    assert re.search(line, (tmp_path / "data/logs/tuned/log.txt").read_text())
    source, started = load(tmp_path, "cloned"), load(tmp_path, "tuned")
    size = len(source["agent"]["optimizer"]["parameters"])  # PPO's vector begins with the policy
    parameters = started["agent"]["optimizer"]["parameters"]
    assert torch.equal(parameters[:size], source["agent"]["optimizer"]["parameters"])  # p_lr is 0
    recorded = yaml.safe_load((tmp_path / "data/checkpoints/tuned/config.yaml").read_text())
    assert recorded["init_from"] == "data/checkpoints/cloned"
    assert recorded["init"].startswith("iteration 2, parameters ")
    shutil.rmtree(tmp_path / "data/checkpoints/cloned")
    result = milozero(*tune, "--num_iters=3", "--p_lr=0", "--resume")
    assert result.returncode == 0, result.stderr
    assert "resuming after iteration 2, not bit-exact: num_iters 3 (was 2)" in result.stdout
    assert "initialized from" not in result.stdout
    assert load(tmp_path, "tuned")["config"]["init"] == recorded["init"]
    assert milozero("--task=eval", "--model_path=data/checkpoints/tuned", "--num_trajs=1").returncode == 0


def test_run_continues_with_another_schedule(milozero, run, tmp_path):
    result = milozero(*CARTPOLE, INIT, "--init_iter_num=4", "--uuid=next", "--p_lr=0", "--v_lr=0")
    assert result.returncode == 0, result.stderr
    taken = "run/iter_4.pt (ppo on CartPole-v1, iteration 4): policy, observation normalizer, value network, reward"
    assert taken in result.stdout
    source, started = (load(tmp_path, *args)["agent"] for args in (("run", "iter_4"), ("next",)))
    assert torch.equal(started["optimizer"]["parameters"], source["optimizer"]["parameters"])
    assert started["optimizer"]["steps"] < source["optimizer"]["steps"]
    assert started["observations"] == source["observations"]  # frozen
    assert load(tmp_path, "next")["counters"]["iteration"] == 1


def test_init_from_a_run_without_evaluations_uses_its_last_checkpoint(milozero, run, tmp_path):
    (tmp_path / "data/checkpoints/run/best.pt").unlink()
    assert "initialized from data/checkpoints/run/last.pt" in milozero(*CARTPOLE, INIT).stdout
    result = milozero(*CARTPOLE, INIT, "--init_iter_num=best")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert (
        "--init_iter_num=best: no such checkpoint in data/checkpoints/run; available: 2, 4, 6, last" in result.stderr
    )


WRONG = {
    ("--init_from=nowhere",): "--init_from=nowhere: no such folder",
    (INIT, "--init_iter_num=5"): "--init_iter_num=5: no such checkpoint in data/checkpoints/run; available: 2, 4, 6",
    (
        INIT,
        "--env_id=Acrobot-v1",
    ): "--init_from=data/checkpoints/run: trained on CartPole-v1, with 4 observations and",
    (INIT, "--env_id=InvertedPendulum-v5"): "actions Discrete(2), but the environment has 4 observations and actions",
    (INIT, "--p_perception_stack=mlp_100", "--activation=relu"): "was trained with --p_perception_stack=mlp_64 "
    "--activation=tanh; pass the same flags",
    (INIT, "--batch_norm_all"): "was trained with --no-batch_norm_all; pass the same flags",
    (INIT, "--layer_norm"): "was trained with --no-layer_norm;",
    (INIT, "--no-normalize_observations"): "was trained with --normalize_observations;",
    (INIT, "--clip_obs=5"): "was trained with --clip_obs=10.0;",
    (INIT, "--init_log_std=-1"): "--init_log_std=-1.0 needs continuous actions",
    ("--init_value_iters=3",): "--init_value_iters needs --init_from",
    ("--init_log_std=-1",): "--init_log_std needs --init_from; without it, use --log_std_init",
}


@pytest.mark.parametrize(("flags", "message"), WRONG.items(), ids=map(str, WRONG))
def test_invalid_start_is_a_one_line_error_before_anything_is_written(milozero, run, tmp_path, flags, message):
    before = sorted(tmp_path.rglob("*"))
    result = milozero(*CARTPOLE, *flags)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert message in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_init_from_and_bc_pretraining_are_mutually_exclusive(milozero, run):
    demos = (f"--expert_path={ROOT / 'data/demos/Hopper-v5'}", "--algo=gail", "--bc_pretrain_epochs=1")
    result = milozero(*CARTPOLE, INIT, *demos)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert "--init_from cannot be combined with --bc_pretrain_epochs" in result.stderr


def test_equivalent_spelling_of_the_perception_stack_is_accepted(milozero, run):
    result = milozero(*CARTPOLE, INIT, "--p_perception_stack=mlp_64_64")
    assert result.returncode == 0, result.stderr


def test_resumed_run_cannot_change_init_from(milozero, run):
    result = milozero("--task=train", "--uuid=run", "--resume", INIT)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert f"{INIT} conflicts with the resumed run, which has --init_from=" in result.stderr


def test_study_validates_init_from_and_makes_its_path_absolute(studies, run, tmp_path):
    flags = ("--env_bundle=CartPole", "--prefix=s", "--no-deploy_now")
    error = studies.run(studies.task("init_from: nowhere\n"), *flags, fails=True)
    assert "--init_from=/" in error
    assert "nowhere: no such folder" in error
    start = f"init_from: {tmp_path}/data/checkpoints/run\n"
    error = studies.run(studies.task(f"{start}p_perception_stack: mlp_7\n"), *flags, fails=True)
    assert "was trained with --p_perception_stack=mlp_64" in error
    assert "1 written" in studies.run(studies.task(start), *flags)
