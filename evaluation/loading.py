"""Load trained agents from checkpoints, to evaluate them, to query them as experts, or to use their reward."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from milozero import environments
from milozero.agents import agent_class
from milozero.agents.policy_config import POLICY_SETTINGS
from milozero.environments.actions import ActionConverter, make_converter
from milozero.environments.vector import check_first_obs, close_env
from milozero.evaluation.video import check_renderer
from milozero.experiment import checkpoint
from milozero.experiment.resume import settings_from_metadata
from milozero.experiment.settings import Settings
from milozero.experiment.status import Counters
from milozero.helpers.comm import Comm
from milozero.helpers.config.flags import to_flags
from milozero.helpers.config.mlp import parse_hidden_sizes
from milozero.helpers.config.values import to_kwargs
from milozero.helpers.errors import UserError

if TYPE_CHECKING:
    from milozero.agents.base import Agent, AgentContext


@dataclass(frozen=True)
class LoadedAgent:
    """A trained agent, and the environment it was trained in."""

    agent: Agent
    path: Path  # of its checkpoint
    settings: Settings  # of its training run
    env_id: str
    env_kwargs: Mapping[str, Any]
    action_space: Any
    observation_size: int
    iteration: int
    best_return: float  # of all evaluations up to this checkpoint; -inf if there was none
    last_return: float  # of the latest evaluation; NaN if there was none

    @functools.cached_property
    def converter(self) -> ActionConverter:
        """Converts the policy's actions to the environment's."""
        return make_converter(self.action_space)

    def predict(self, obs: np.ndarray) -> Any:
        """Return the deterministic action for an observation (O,), or one action for each of (N, O).

        Actions are in the environment's units, shape and dtype, and clipped to its bounds. A single
        observation of another shape, e.g. a matrix, is flattened.

        Raises:
            ValueError: if an observation does not have O elements.
        """
        obs = np.asarray(obs, np.float32)
        if obs.shape[-1:] != (self.observation_size,):
            if obs.size != self.observation_size:
                raise ValueError(f"expected observations of {self.observation_size} numbers, not shape {obs.shape}")
            obs = obs.ravel()
        actions = self.agent.predict(obs) if obs.ndim == 1 else np.stack([self.agent.predict(row) for row in obs])
        return self.converter.to_env(actions)


def make_agent(settings: Settings, env: Any, size: int, context: AgentContext) -> Agent:
    """Build an untrained agent from settings, for observations of `size` numbers and the actions of `env`."""
    policy_space = make_converter(env.action_space).policy_space
    return agent_class(settings.train.algo)(settings.agent, size, policy_space, context)


def load_agent(
    path: str | Path, env_kwargs: str = "", device: str = "cpu", *, iter_num: str = "last", rendered: bool = False
) -> LoadedAgent:
    """Load a trained agent.

    Args:
        path: a checkpoint (``data/checkpoints/NAME/last.pt``), or the folder of an experiment's checkpoints.
        env_kwargs: environment arguments that override those of training, e.g. ``frame_skip=2``.
        device: torch device of the networks.
        iter_num: the checkpoint to load from a folder: an iteration, ``best`` or ``last``.
        rendered: check that the environment can be rendered.

    Raises:
        UserError: if the checkpoint or its environment cannot be used, e.g. because the environment's module has not
            been imported, or if it cannot be rendered on this machine.
    """
    from milozero.agents.base import AgentContext

    path = Path(path)
    path = checkpoint.find(str(path), iter_num) if path.is_dir() else path
    content = checkpoint.load(path)
    trained = settings_from_metadata(content["config"])
    env_id = environments.resolve(trained.train.env_id)
    if rendered and environments.find_suite(env_id).OPENGL:
        check_renderer()
    kwargs = to_kwargs(trained.common.env_kwargs) | to_kwargs(env_kwargs)
    env = environments.make_env(env_id, None, kwargs)
    try:
        check_first_obs(env_id, env, bool(kwargs))
        size, space = int(cast("Any", env.observation_space).shape[0]), env.action_space
        agent = make_agent(trained, env, size, AgentContext(Comm(), device=device, imitation=trained.imitation))
    finally:
        close_env(env)
    checkpoint.restore_agent(agent, content["agent"])
    counters = Counters()
    with checkpoint.convert_errors():
        counters.load_state_dict(content["counters"])
    returns = (counters.best_eval_return, counters.last_eval_return)
    return LoadedAgent(agent, path, trained, env_id, kwargs, space, size, counters.iteration, *returns)


@dataclass(frozen=True)
class Teachers:
    """Trained agents that a run learns from or starts from."""

    init: LoadedAgent | None = None  # that ``--init_from`` names
    expert: LoadedAgent | None = None  # that ``--expert_model`` names
    reward: LoadedAgent | None = None  # whose learned reward ``--reward_path`` names
    expert_return: float | None = None  # of the expert's evaluation; None if it was never evaluated

    def check_spaces(self, env: Any) -> None:
        """Raise a UserError unless the teachers' observations and actions are those of `env`."""
        for flag, loaded in (("init_from", self.init), ("expert_model", self.expert), ("reward_path", self.reward)):
            if loaded and (loaded.observation_size, loaded.action_space) != (env.observation_size, env.action_space):
                raise UserError(
                    f"--{flag}={loaded.path.parent}: trained on {loaded.env_id}, with {loaded.observation_size} "
                    f"observations and actions {loaded.action_space}, but the environment has "
                    f"{env.observation_size} observations and actions {env.action_space}"
                )


def load_teachers(settings: Settings, device: str, *, is_resumed: bool = False) -> Teachers:
    """Load the agents that ``--init_from``, ``--expert_model`` and ``--reward_path`` name.

    This makes and closes their environments. A resumed run does not need the agent that it started from.

    Raises:
        UserError: if a checkpoint cannot be used, that of ``--reward_path`` has no learned reward, or the policy of
            ``--init_from`` does not fit the settings.
    """
    init, expert, reward, expert_return = None, None, None, None
    if settings.agent.init_from and not is_resumed:
        init = _load_teacher(settings, ("init_from", "init_iter_num"), device)
        check_policy_settings(settings, init)
    if getattr(settings.agent, "expert_model", ""):
        expert = _load_teacher(settings, ("expert_model", "expert_iter_num"), device)
        eval_return = expert.best_return if expert.path.stem == "best" else expert.last_return
        expert_return = eval_return if math.isfinite(eval_return) else None
    if folder := getattr(settings.agent, "reward_path", ""):
        reward = _load_teacher(settings, ("reward_path", "reward_iter_num"), device)
        if not hasattr(reward.agent, "learned_reward"):
            raise UserError(f"--reward_path={folder}: {reward.settings.train.algo} learns no reward; airl does")
        if reward.settings.agent.d_absorbing and settings.agent.gamma == 1.0:
            raise UserError(f"--reward_path={folder}: learned with --d_absorbing, which needs a --gamma below 1")
    return Teachers(init, expert, reward, expert_return)


def _load_teacher(settings: Settings, flags: tuple[str, str], device: str) -> LoadedAgent:
    """Load the agent that the settings `flags` name: the folder, and the checkpoint in it."""
    folder, iter_num = (getattr(settings.agent, flag) for flag in flags)
    return load_agent(
        checkpoint.find(folder, iter_num, flags, is_default=flags[1] not in settings.explicit), device=device
    )


def check_policy_settings(settings: Settings, init: LoadedAgent) -> None:
    """Raise a UserError that names the differences unless a policy has the same kind and `POLICY_SETTINGS`."""
    kinds = [each.agent.policy_kind for each in (settings, init.settings)]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"--init_from={init.path.parent}: --algo={settings.train.algo} needs {kinds[0]}, but "
            f"{init.settings.train.algo} trained {kinds[1]}"
        )
    own, other = (
        {name: getattr(each.agent, name, None) for name in POLICY_SETTINGS} for each in (settings, init.settings)
    )
    sizes = [parse_hidden_sizes(str(each["p_perception_stack"])) for each in (own, other)]
    if sizes[0] == sizes[1]:  # e.g. mlp_64 and mlp_64_64
        other["p_perception_stack"] = own["p_perception_stack"]
    if differences := to_flags({name: value for name, value in other.items() if value != own[name]}):
        raise UserError(
            f"--init_from={init.path.parent}: its policy was trained with {' '.join(differences)}; "
            "pass the same flags"
        )
