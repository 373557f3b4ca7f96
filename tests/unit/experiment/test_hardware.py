"""Whether a run's updates are compiled."""

import importlib.machinery

import pytest

from milozero.experiment import hardware
from milozero.experiment.command_line import parse
from milozero.helpers.errors import UserError

ON_CPU = (1, "cpu", None)  # workers, device, was_compiled


def settings(*flags):
    return parse(["--task=train", "--env_id=Hopper-v5", *flags])


@pytest.fixture(autouse=True)
def _compiler(monkeypatch):
    monkeypatch.setattr("milozero.experiment.hardware.can_compile", lambda device: True)
    monkeypatch.setattr("milozero.experiment.hardware.try_to_compile", lambda: "")


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


@pytest.mark.parametrize("was_compiled", [None, True])
def test_compiler_that_fails_is_a_warning_unless_compiling_was_asked_for(monkeypatch, caplog, was_compiled):
    monkeypatch.setattr("milozero.experiment.hardware.try_to_compile", lambda: "g++: no space left")
    long = ("--num_timesteps=1000000",)
    assert not hardware.should_compile(settings(*long), 1, "cpu", was_compiled, 0)
    assert "training is slower, because the update cannot be compiled: g++: no space left" in caplog.text
    with pytest.raises(UserError, match=r"^--compile does not work here: g\+\+: no space left; remove the flag"):
        hardware.should_compile(settings(*long, "--compile"), 1, "cpu", was_compiled, 0)
    assert not hardware.should_compile(settings(*long, "--no-compile"), 1, "cpu", was_compiled, 0)


def test_compiler_is_tried_and_its_error_is_one_line(monkeypatch, tmp_path):
    monkeypatch.undo()
    assert hardware.try_to_compile() == ""
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho 'In file x:' >&2\necho 'cc1plus: fatal error: no space' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert hardware.try_to_compile() == "cc1plus: fatal error: no space"
    monkeypatch.setenv("CXX", str(tmp_path / "missing"))
    assert "No such file" in hardware.try_to_compile()


def test_torch_in_a_path_with_a_space_is_not_compiled(monkeypatch):
    monkeypatch.undo()
    spec = importlib.machinery.ModuleSpec("torch", None, origin="/my venv/torch/__init__.py")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert "has a space in its path" in hardware.try_to_compile()
