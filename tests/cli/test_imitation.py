"""Imitation learning from the command line: AIRL's reward, DAgger's expert, and errors."""

import re
import shutil

import pytest
import yaml

from milozero.helpers.errors import UserError
from tests.support import ROOT
from tests.support.one_run import OFF_POLICY, logged_rows

SHIPPED = ROOT / "data/demos/Hopper-v3"
SHORT = ("--num_iters=2", "--num_envs=2", "--rollout_len=256", "--eval_episodes=1", "--no-compile")
HOPPER = ("--task=train", "--env_id=Hopper-v3", *SHORT)


def can_evaluate(milozero, tmp_path, name):
    result = milozero("--task=eval", f"--model_path={tmp_path}/data/checkpoints/{name}", "--num_trajs=1")
    return result.returncode == 0


def test_new_policy_trains_on_the_reward_that_airl_learned(milozero, tmp_path):
    demos = (f"--expert_path={SHIPPED}", "--num_demos=2", "--d_perception_stack=mlp_16")
    result = milozero(*HOPPER, "--algo=airl", *demos, "--bc_pretrain_epochs=1", "--d_absorbing", "--uuid=airl")
    assert result.returncode == 0, result.stderr
    assert can_evaluate(milozero, tmp_path, "airl")
    learn = (*HOPPER, "--algo=ppo", "--reward_path=data/checkpoints/airl", "--uuid=fresh")
    result = milozero(*learn, "--gamma=1")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "learned with --d_absorbing, which needs a --gamma below 1" in result.stderr
    result = milozero(*learn)
    assert result.returncode == 0, result.stderr
    config = yaml.safe_load((tmp_path / "data/checkpoints/fresh/config.yaml").read_text())
    assert config["reward_iter_num"] == "last"
    assert config["reward"] != "0"
    shutil.rmtree(tmp_path / "data/checkpoints/airl")
    assert can_evaluate(milozero, tmp_path, "fresh")
    result = milozero(*learn, "--resume", "--num_iters=3")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "--reward_path=data/checkpoints/airl: no such folder" in result.stderr


def test_any_checkpoint_can_be_the_expert(milozero, monkeypatch, tmp_path):
    def no_display():
        raise UserError("nothing renders here")

    monkeypatch.setattr("milozero.evaluation.loading.check_renderer", no_display)  # querying renders nothing
    assert milozero(*HOPPER, "--uuid=expert").returncode == 0
    learn = (*HOPPER, "--algo=dagger", "--uuid=run", "--expert_model=data/checkpoints/expert")
    result = milozero(*learn)
    assert result.returncode == 0, result.stderr
    (expert,) = re.findall(r"expert return \(target\): (\d+\.\d)\n", result.stdout)
    assert f", expert {expert}\n" in result.stdout
    result = milozero(*learn, "--resume", "--num_iters=3")
    assert result.returncode == 0, result.stderr
    assert "not bit-exact: num_iters 3 (was 2)\n" in result.stdout
    shutil.rmtree(tmp_path / "data/checkpoints/expert")
    assert can_evaluate(milozero, tmp_path, "run")


def test_unusable_expert_or_reward_is_a_one_line_error(milozero):
    assert milozero("--task=train", "--env_id=CartPole", *SHORT, "--uuid=pole").returncode == 0
    wrong = {
        ("--algo=dagger",): "--algo=dagger queries an expert: --expert_model=",
        ("--algo=dagger", "--expert_model=nowhere"): "--expert_model=nowhere: no such folder",
        ("--algo=dagger", "--expert_model=data/checkpoints/pole"): "trained on CartPole-v1, with 4 observations",
        ("--algo=dagger", "--expert_model=data/checkpoints/pole", "--expert_iter_num=7"): "--expert_iter_num=7: no",
        ("--algo=ppo", "--reward_path=data/checkpoints/pole"): "ppo learns no reward; airl does",
        ("--algo=gail", "--reward_path=data/checkpoints/pole"): "reward_path",
        ("--algo=dagger", "--bc_loss=mse", "--env_id=CartPole", "--expert_model=data/checkpoints/pole"): "use nll",
    }
    for flags, message in wrong.items():
        result = milozero(*HOPPER, *flags)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
        assert message in result.stderr


def test_recipe_of_dac_trains(milozero, tmp_path):
    flags = (f"--config={ROOT / 'tasks/train_mujoco_dac.yaml'}", "--env_id=Hopper", "--num_demos=1", "--uuid=dac")
    short = ("--num_iters=2", "--rollout_len=512", "--learning_starts=512", "--updates_per_step=0.1")
    result = milozero("--task=train", *flags, *short, f"--expert_path={SHIPPED}", "--no-compile", "--eval_episodes=1")
    assert result.returncode == 0, result.stderr
    assert float(logged_rows(tmp_path, "dac")[-1]["d_prob_expert"]) > 0
    assert can_evaluate(milozero, tmp_path, "dac")


@pytest.mark.parametrize("mix", [0.0, 0.25])
def test_demonstrations_are_part_of_sacs_batches(milozero, tmp_path, mix):
    flags = (*SHORT, "--num_envs=4", "--rollout_len=128", *OFF_POLICY, f"--expert_mix={mix}", "--uuid=run")
    demos = (f"--expert_path={SHIPPED}", "--num_demos=1")
    result = milozero("--task=train", "--algo=sac", "--env_id=Hopper", *flags, *demos)
    assert result.returncode == 0, result.stderr
    ignored = "sac ignores expert_path, num_demos without expert_mix (used by bc, gail, airl, dac, sqil, iq)"
    assert (ignored in result.stdout) is (mix == 0)
    assert float(logged_rows(tmp_path, "run")[-1]["td_error"]) > 0
