"""Training and evaluation on a GPU."""

import pytest
import torch

pytestmark = pytest.mark.gpu
SHORT = (
    "--task=train",
    "--env_id=Pendulum",
    "--num_envs=4",
    "--rollout_len=256",
    "--num_iters=3",
    "--eval_episodes=1",
)


def parameters(milozero, tmp_path, name, *flags, workers=0):
    result = milozero(*SHORT, f"--uuid={name}", *flags, workers=workers, timeout=500)
    assert result.returncode == 0, result.stderr
    return torch.load(tmp_path / f"data/checkpoints/{name}/last.pt", weights_only=True)["agent"]["optimizer"][
        "parameters"
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("switch", ["--compile", "--no-compile"])
def test_gpu_and_cpu_training_agree(milozero, tmp_path, switch, workers):
    host = parameters(milozero, tmp_path, "host", "--no-compile", workers=workers)
    gpu = parameters(milozero, tmp_path, "gpu", "--cuda", switch, workers=workers)
    assert gpu.device.type == "cpu"
    torch.testing.assert_close(gpu, host, atol=1e-3, rtol=0)


def test_checkpoint_of_a_gpu_is_evaluated_without_one(milozero, tmp_path):
    parameters(milozero, tmp_path, "gpu", "--cuda")
    path = f"--model_path={tmp_path}/data/checkpoints/gpu"
    with_gpu = milozero("--task=eval", path, "--iter_num=last", "--num_trajs=2", "--cuda")
    without = milozero("--task=eval", path, "--iter_num=last", "--num_trajs=2", env={"CUDA_VISIBLE_DEVICES": ""})
    assert with_gpu.returncode == without.returncode == 0
    assert with_gpu.stdout.splitlines()[-2] == without.stdout.splitlines()[-2]  # the return; each has its own folder
