"""Updates of SAC, TD3 and IQ-Learn against independent implementations."""

import gymnasium
import numpy as np
import pytest
import torch

from milozero.agents.base import AgentContext
from milozero.agents.learning.optimizer import PackedBatch
from milozero.agents.registry import agent_class, config_class
from milozero.helpers.comm import Comm
from tests.support import off_policy_reference as reference

OBS, ACTIONS, BATCH = 5, 3, 16
SPACE = gymnasium.spaces.Box(-1, 1, (ACTIONS,), np.float32)
SMALL = {"p_perception_stack": "mlp_24", "q_perception_stack": "mlp_16_20", "batch_size": BATCH, "tau": 0.05}
RATES = {"q_lr": 1e-3, "p_lr": 2e-3}
CASES = {
    "sac": ("sac", {}),
    "sac, fixed temperature": ("sac", {"ent_coef": 0.3}),
    "sac, delayed policy": ("sac", {"policy_delay": 2, "ent_lr": 1e-2}),
    "sac, target entropy": ("sac", {"target_entropy": -0.5, "ent_lr": 3e-2}),
    "sac, layer normalization in the critics": ("sac", {"q_layer_norm": True}),
    "iq": ("iq", {}),
    "iq, adaptive temperature, delayed policy": ("iq", {"ent_coef": None, "iq_alpha": 0.2, "policy_delay": 2}),
    "td3": ("td3", {}),
    "td3, every update": ("td3", {"policy_delay": 1}),
    "td3, delay of 3, much noise": ("td3", {"policy_delay": 3, "target_noise": 0.5, "target_noise_clip": 0.3}),
}


def make(algo, *, compile=False, **config):
    config = config_class(algo)(**SMALL | RATES | config, train_freq=8, buffer_size=1000)
    return agent_class(algo)(config, OBS, SPACE, AgentContext(Comm(), num_envs=2, compile=compile))


def random_batch(rng, rows, noises=2):
    fields = {
        "obs": rng.standard_normal((rows, OBS)),
        "actions": rng.uniform(-1, 1, (rows, ACTIONS)),
        "rewards": rng.standard_normal(rows),
        "next_obs": rng.standard_normal((rows, OBS)),
        "discounts": rng.choice([0.0, 0.99, 0.9], rows),
        "noise": rng.standard_normal((rows, noises * ACTIONS)),
    }
    return {name: torch.from_numpy(field.astype(np.float32)) for name, field in fields.items()}


def check_updates(case, *, compile=False):
    """Compare the parameters after twelve updates of the policy, in three rounds."""
    algo, config = CASES[case]
    agent = make(algo, compile=compile, **config)
    named = agent.optimizer.params.unflatten(agent.optimizer.params.vector)
    references = {"sac": reference.SAC, "iq": reference.IQ, "td3": reference.TD3}
    expected = references[algo](named, agent.config)
    rng = np.random.default_rng(3)
    delay = agent.config.policy_delay
    for chunk in (1, 2, 4):  # a compiled run always has the same
        chunk = 1 if compile else chunk
        batch = random_batch(rng, BATCH * 12 // 3 * delay, agent.NOISES_PER_STEP)
        if algo == "iq":  # marks the expert's steps
            batch["rewards"] = (batch["rewards"] > 0.3).float()
        agent.optimizer.run_steps(PackedBatch(batch), 4 * delay, chunk * delay)
        for start in range(0, len(batch["obs"]), BATCH):
            expected.step({name: field[start : start + BATCH] for name, field in batch.items()})
    for name, value in named.items():
        torch.testing.assert_close(value, expected.params[name].detach(), atol=1e-5, rtol=1e-4, msg=name)
    for name, value in agent.target_params.items():
        torch.testing.assert_close(value, expected.targets[name], atol=1e-5, rtol=1e-4, msg=name)
    initial = make(algo, **config).network.state_dict()
    moved = max((value - initial[name]).abs().max() for name, value in named.items())
    assert moved > 5e-3  # what is compared has been trained


@pytest.mark.parametrize("case", CASES)
def test_updates_agree_with_the_reference(case):
    check_updates(case)


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_each_loss_has_a_gradient_for_its_own_network_only(algo):
    """The critics' gradient is that of their own loss, which has none for the policy."""
    agent = make(algo)
    batch = random_batch(np.random.default_rng(0), BATCH, agent.NOISES_PER_STEP)
    gradients = []
    for loss in (agent.loss, agent.critic_loss):
        flat = agent.optimizer.params.vector.clone().requires_grad_()
        value, _ = loss(agent.optimizer.params.unflatten(flat), batch)
        gradients.append(torch.autograd.grad(value, flat)[0])
    count = agent.optimizer.delay.count
    torch.testing.assert_close(gradients[0][:count], gradients[1][:count], rtol=0, atol=0)
    assert gradients[0][count:].abs().max() > 0
    assert not gradients[1][count:].any()


def test_fixed_temperature_has_no_gradient():
    agent = make("sac", ent_coef=0.3)
    agent.optimizer.run_steps(PackedBatch(random_batch(np.random.default_rng(0), BATCH)), 1, 1)
    assert agent.optimizer.moment1[-1] == 0
    assert agent.optimizer.pop_metrics()["temperature"] == pytest.approx(0.3)


def test_temperature_approaches_the_value_that_keeps_the_target_entropy():
    agent = make("sac", ent_lr=0.05, p_lr=0.0, q_lr=0.0, target_entropy=10.0)  # above the entropy of any policy
    agent.optimizer.run_steps(PackedBatch(random_batch(np.random.default_rng(0), BATCH * 8)), 8, 1)
    assert agent.optimizer.pop_metrics()["temperature"] > 1.0
    agent = make("sac", ent_lr=0.05, p_lr=0.0, q_lr=0.0, target_entropy=-100.0)
    agent.optimizer.run_steps(PackedBatch(random_batch(np.random.default_rng(0), BATCH * 8)), 8, 1)
    assert agent.optimizer.pop_metrics()["temperature"] < 1.0
