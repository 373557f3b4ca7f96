"""Agents out of checkpoints: to play, to be asked what they would do, or for the reward that they have learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from milozero import environments
from milozero.agents import agent_class
from milozero.evaluation.video import check_renderer
from milozero.experiment import checkpoint
from milozero.experiment.resume import settings_from_record
from milozero.experiment.settings import Settings
from milozero.helpers.comm import Comm
from milozero.helpers.config.params import to_kwargs
from milozero.helpers.errors import UserError

if TYPE_CHECKING:
    from milozero.agents.base import Agent, AgentContext


@dataclass(frozen=True)
class LoadedAgent:
    """An agent as a checkpoint has it, and the environment that it learned in."""

    agent: Agent
    settings: Settings  # as it was trained
    env_id: str
    env_kwargs: Mapping[str, Any]
    action_space: Any
    observation_size: int
    iteration: int
    best_return: float  # of the evaluations until then
    last_return: float  # NaN where there was none


def make_agent(settings: Settings, env: Any, size: int, context: AgentContext) -> Agent:
    """Return the agent that the settings name, for an environment's spaces."""
    return agent_class(settings.train.algo)(settings.agent, size, env.action_space, context)


def load_agent(path: Path, env_kwargs: str = "", device: str = "cpu", *, rendered: bool = False) -> LoadedAgent:
    """Return the agent of a checkpoint.

    Args:
        path: of the file.
        env_kwargs: what to make its environment with, on top of what it learned with.
        device: torch's name of where its networks are.
        rendered: whether its environment is to be rendered.

    Raises:
        UserError: where the checkpoint or its environment cannot be used, or not be rendered here.
    """
    from milozero.agents.base import AgentContext
    from milozero.environments.vector import check_first

    content = checkpoint.load(path)
    trained = settings_from_record(content["config"])
    env_id = environments.resolve(trained.train.env_id)
    if rendered and environments.suite_for(env_id).OPENGL:
        check_renderer()
    kwargs = to_kwargs(trained.common.env_kwargs) | to_kwargs(env_kwargs)
    env = environments.make_env(env_id, None, kwargs)
    check_first(env_id, env, bool(kwargs))
    size, space = int(cast("Any", env.observation_space).shape[0]), env.action_space
    agent = make_agent(trained, env, size, AgentContext(Comm(), device=device, imitation=trained.imitation))
    env.close()
    checkpoint.restore_agent(agent, content["agent"])
    counters = content["counters"]
    returns = (float(counters["best_eval_return"]), float(counters["last_eval_return"]))
    return LoadedAgent(agent, trained, env_id, kwargs, space, size, counters["iteration"], *returns)


def load_expert(settings: Settings, env: Any, device: str) -> tuple[Agent | None, float | None]:
    """Return the agent that ``--expert_model`` names, to be asked about `env`, and the return of its evaluation.

    None where the algorithm asks none, or it was never evaluated.

    Raises:
        UserError: where it cannot be used, or sees or does something else.
    """
    named = getattr(settings.agent, "expert_model", "")
    if not named:
        return None, None
    which = settings.agent.expert_iter_num
    player = _fitting(("expert_model", "expert_iter_num"), named, which, env, device)
    evaluated = player.best_return if which == "best" else player.last_return
    return player.agent, evaluated if math.isfinite(evaluated) else None


def load_reward(settings: Settings, env: Any, device: str) -> Agent | None:
    """Return the agent whose learned reward ``--reward_path`` names; None where the environment's own is meant.

    Raises:
        UserError: where it cannot be used, or there is none.
    """
    named = getattr(settings.agent, "reward_path", "")
    if not named:
        return None
    player = _fitting(("reward_path", "reward_iter_num"), named, settings.agent.reward_iter_num, env, device)
    if not hasattr(player.agent, "learned_reward"):
        raise UserError(f"--reward_path={named}: {player.settings.train.algo} learns no reward; airl does")
    return player.agent


def _fitting(flags: tuple[str, str], folder: str, iter_num: str, env: Any, device: str) -> LoadedAgent:
    """Return the player that two flags name; one of other spaces than the environment's is refused."""
    player = load_agent(checkpoint.find(folder, iter_num, flags), device=device)
    its = (player.observation_size, player.action_space)
    if its != (env.observation_size, env.action_space):
        sees, does = env.observation_size, env.action_space
        raise UserError(
            f"--{flags[0]}={folder}: learned {player.env_id}, with {its[0]} observations and actions {its[1]}, "
            f"but the environment has {sees} and {does}"
        )
    return player
