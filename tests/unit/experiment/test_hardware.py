"""Whether a run's updates are compiled."""

import pytest

from milozero.experiment import hardware
from milozero.experiment.command_line import parse

ON_CPU = (1, "cpu", None)  # workers, device, was_compiled


def settings(*flags):
    return parse(["--task=train", "--env_id=Hopper-v5", *flags])


@pytest.fixture(autouse=True)
def _compiler(monkeypatch):
    monkeypatch.setattr("milozero.experiment.hardware.can_compile", lambda device: True)


def test_a_long_run_is_compiled_and_a_short_one_is_not():
    assert hardware.should_compile(settings("--num_timesteps=1000000"), *ON_CPU, 0)
    assert not hardware.should_compile(settings("--num_timesteps=10000"), *ON_CPU, 0)


def test_bc_run_length_counts_passes_over_the_demonstrations():
    flags = ("--algo=bc", "--expert_path=demos", "--num_iters=60", "--rollout_len=256", "--num_envs=8")
    assert hardware.should_compile(settings(*flags), *ON_CPU, 16_000)
    assert not hardware.should_compile(settings(*flags), *ON_CPU, 1_000)
    assert not hardware.should_compile(settings(*flags), 16, "cpu", None, 16_000)
    assert not hardware.should_compile(settings(*flags, "--demo_subsampling=20"), *ON_CPU, 16_000)


def test_resumed_run_is_compiled_if_it_was_before():
    long, short = settings("--num_timesteps=1000000"), settings("--num_timesteps=10000")
    assert not hardware.should_compile(long, 1, "cpu", False, 0)
    assert hardware.should_compile(short, 1, "cpu", True, 0)
