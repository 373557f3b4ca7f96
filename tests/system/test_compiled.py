"""Compiled updates equal plain ones; each compilation takes up to a minute."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from milozero.agents.adversarial_config import AIRLConfig
from milozero.agents.airl_agent import AIRLAgent
from milozero.agents.base import AgentContext
from milozero.agents.learning.optimizer import Optimizer, PackedBatch
from milozero.demonstrations.dataset import ImitationConfig
from milozero.helpers.comm import Comm
from milozero.helpers.errors import RunError
from tests.support import steps
from tests.support.one_run import OFF_POLICY, PENDULUM, parameters
from tests.support.ppo_reference import DISCRETE, train_with_reference
from tests.support.steps import SIZE, N, expert, rollout
from tests.unit.agents.test_off_policy_reference import check_updates

# two minibatches per epoch, and so two steps per call of compiled code: more would take longer to compile
FLAGS = [*(flag for flag in PENDULUM if flag != "--no-compile"), "--batch_size=128", "--num_iters=3"]
FLAGS += ["--clip_value_loss", "--recompute_advantages"]


def test_workers_compile_code_once_agree_with_plain_updates_and_keep_it_for_the_next_run(milozero, tmp_path):
    log, compiler = tmp_path / "compiled", tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {shutil.which("g++")} "$@"\n')
    compiler.chmod(0o755)
    env = {"CXX": str(compiler), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    steps = []
    for name, switch in (("first", "--compile"), ("plain", "--no-compile"), ("second", "--compile")):
        result = milozero(*FLAGS, switch, f"--uuid={name}", workers=2, timeout=500, env=env)
        assert result.returncode == 0, result.stderr
        steps.append([line for line in log.read_text().splitlines() if "all_reduce" in source(line)])
    assert len(steps[0]) == 1
    assert steps[2] == steps[0]
    assert_close(tmp_path, "first", "plain")
    assert yaml.safe_load((tmp_path / "data/logs/first/config.yaml").read_text())["compile"] is True


def assert_close(tmp_path, *names):
    torch.testing.assert_close(*(parameters(tmp_path, name) for name in names), atol=1e-4, rtol=0)


@pytest.fixture
def killed_compiler(tmp_path):
    """The path of a compiler that is killed, except for the short program that is tried at the start."""
    compiler = tmp_path / "g++"
    killed = "echo 'g++: fatal error: Killed signal terminated program cc1plus' >&2; exit 1"
    compiler.write_text(f'#!/bin/sh\ncase "$*" in *.cpp*) {killed};; esac\nexec {shutil.which("g++")} "$@"\n')
    compiler.chmod(0o755)
    return str(compiler)


def test_compiler_that_is_killed_is_one_line(milozero, tmp_path, killed_compiler):
    env = {"CXX": killed_compiler, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    result = milozero(*FLAGS, "--compile", workers=2, timeout=500, env=env)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert "cannot compile the update: g++: fatal error: Killed" in line
    assert "--no-compile" in line


def test_compiler_that_is_killed_raises_an_error_in_a_single_process(monkeypatch, killed_compiler):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (killed_compiler,))
    network = torch.nn.Linear(1, 1, bias=False)
    loss = lambda params, batch: (params["weight"].sum() * 5, {"x": batch["x"].sum()})  # noqa: E731
    optimizer = Optimizer(network, loss, lambda _: 0.1, clip_norm=0.0, comm=Comm(), compile=True)
    with pytest.raises(RunError, match=r"cannot compile the update: g..: fatal error: Killed.*--no-compile"):
        optimizer.run_epoch(PackedBatch({"x": torch.ones(7)}), 7, np.random.default_rng(0))


def source(command):
    """Return the text of the C++ file that a compiler's command line names."""
    files = [Path(word) for word in command.split() if word.endswith(".cpp")]
    return files[0].read_text() if files and files[0].exists() else ""


def test_compiled_updates_equal_the_reference():
    """The reference is the one of tests/unit/agents/test_ppo_reference.py; the test with two workers has a Box."""
    counts = train_with_reference(DISCRETE, compile=True, ent_coef=0.05).counts
    assert min(counts[case] for case in ("above, good", "above, bad", "below, good", "below, bad")) > 0
    assert min(counts["gradient clipped"], counts["gradient not clipped"]) > 0


def test_two_compiled_optimizers_do_not_share_code():
    torch._dynamo.config.suppress_errors = False
    gradients = []
    for slope in (2.0, -3.0):
        network = torch.nn.Linear(1, 1, bias=False)
        loss = lambda params, batch, slope=slope: (params["weight"].sum() * slope, {"x": batch["x"].sum()})  # noqa: E731
        optimizer = Optimizer(network, loss, lambda _: 0.1, clip_norm=0.0, comm=Comm(), compile=True)
        optimizer.run_epoch(PackedBatch({"x": torch.ones(2)}), 2, np.random.default_rng(0))
        gradients.append((optimizer.moment1 / 0.1).item())
    assert gradients == pytest.approx([2.0, -3.0], rel=1e-5)


def test_failing_all_reduce_stops_compiled_steps_with_its_error(capfd):
    class Broken(Comm):
        size = 2

        def sum_(self, array):
            raise ConnectionError("a worker is gone")

    network = torch.nn.Linear(1, 1, bias=False)
    loss = lambda params, batch: (params["weight"].sum(), {"x": batch["x"].sum()})  # noqa: E731
    optimizer = Optimizer(network, loss, lambda _: 0.1, clip_norm=0.0, comm=Broken(), compile=True)
    with pytest.raises(RuntimeError, match="all_reduce"):
        optimizer.run_epoch(PackedBatch({"x": torch.ones(2)}), 2, np.random.default_rng(0))
    assert "a worker is gone" in capfd.readouterr().err


NETWORKS = {"p_perception_stack": "mlp_8", "v_perception_stack": "mlp_8", "batch_size": 48, "epochs": 1}


def test_compiled_and_plain_discriminators_agree():
    def make(compile):
        imitation = ImitationConfig(d_perception_stack="mlp_16")
        context = AgentContext(
            Comm(), seed=1, num_envs=N, demos=[expert(terminated=True)], imitation=imitation, compile=compile
        )
        config = AIRLConfig(**NETWORKS, d_batch_size=48, d_steps=2, d_batch_norm=True, d_penalty_coef=10)
        return AIRLAgent(config, SIZE, steps.BOX, context)

    plain, compiled = make(False), make(True)
    for k in range(3):
        expected, actual = (agent.update(rollout(k, [(3, 1)]), 0.0) for agent in (plain, compiled))
        assert actual == pytest.approx(expected, rel=2e-3, abs=2e-4, nan_ok=True)
    features, _ = plain.rollout_features(rollout(9))
    np.testing.assert_allclose(
        compiled.logits(features), plain.logits(features), atol=2e-2
    )  # single precision, over 96 steps


def test_compiled_sac_updates_agree_with_the_reference():
    check_updates("sac", compile=True)


def test_compiled_and_plain_td3_agree_with_two_workers(milozero, tmp_path):
    """Compiling takes steps that are undone, also those of the target networks."""
    train = ("--task=train", "--env_id=Pendulum", "--algo=td3", "--num_envs=2", "--rollout_len=64", *OFF_POLICY)
    train += ("--updates_per_step=0.04",)  # two updates per round and call: more would take longer to compile
    for name, switch in (("compiled", "--compile"), ("plain", "--no-compile")):
        result = milozero(*train, switch, "--num_iters=4", f"--uuid={name}", workers=2, timeout=500)
        assert result.returncode == 0, result.stderr
    assert_close(tmp_path, "compiled", "plain")
