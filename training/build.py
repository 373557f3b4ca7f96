"""Build a training run from its settings."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milozero import environments
from milozero.agents.base import Agent, AgentContext
from milozero.agents.episodes import EpisodeLog
from milozero.agents.registry import get_metrics
from milozero.demonstrations import dataset
from milozero.demonstrations.episode import Episode
from milozero.environments.vector import VectorEnv, close_env
from milozero.evaluation import loading
from milozero.evaluation.episodes import make_eval_env
from milozero.evaluation.recording import EpisodeRecorder, Recorder
from milozero.experiment.hardware import select_device, should_compile
from milozero.experiment.initializer import ExperimentInitializer
from milozero.experiment.launch import Launch
from milozero.experiment.replay_files import ReplayFiles, Segment
from milozero.experiment.settings import Settings
from milozero.experiment.status import Counters, Status
from milozero.experiment.watchdog import Watchdog, list_children, start_watchdog
from milozero.helpers.comm import Comm
from milozero.helpers.config.values import to_kwargs
from milozero.helpers.errors import UserError
from milozero.helpers.logging import is_quiet, log_result, logger
from milozero.helpers.seeding import Purpose, make_seed, seed_global_rngs
from milozero.tracking import tensorboard
from milozero.tracking.console import ConsoleTracker
from milozero.tracking.csv import CSVTracker
from milozero.tracking.tensorboard import TensorBoardTracker
from milozero.tracking.tracker import Tracker, Trackers
from milozero.tracking.wandb import WandbTracker
from milozero.training.checks import find_end
from milozero.training.run import Training, restore, restore_recent_episodes, restore_replay, restore_unevaluated
from milozero.training.summary import log_header

if TYPE_CHECKING:
    import gymnasium

WANDB_EXIT_TIMEOUT_S = 20.0  # for uploads of a run that was asked to stop


def build_run(settings: Settings, launch: Launch, envs: contextlib.ExitStack) -> Training | None:
    """Set up a training run, or restore one from its checkpoint (collective). `envs` closes its environments.

    Returns:
        The run; None if it is already finished, which is logged.

    Raises:
        UserError: if the settings or their inputs are invalid; nothing has been written then.
    """
    comm, cleanup = launch.comm, launch.cleanup
    experiment = cleanup.enter_context(ExperimentInitializer(settings, comm))
    settings, content = experiment.settings, experiment.checkpoint
    if settings.tracking.tensorboard:
        tensorboard.check_installed()
    if end := comm.on_root(lambda: find_end(experiment)):
        if comm.rank == 0:
            log_result(f"experiment {experiment.name} is finished: {end}; raise this limit to train it longer")
        return None
    env_id, env_kwargs = environments.resolve(settings.train.env_id), to_kwargs(settings.common.env_kwargs)
    recorder = make_recorder(settings, env_id, comm)  # first, because its check takes a second or two
    cleanup.callback(recorder.close)
    other_processes = list_children()
    device = select_device(settings, comm)
    # First: a second environment may not be able to exist.
    teachers = loading.load_teachers(settings, device, is_resumed=content is not None)
    env, eval_env = open_envs(env_id, settings.train.num_envs, env_kwargs, envs, comm, experiment.seed)
    demos = load_demos(settings, env)
    teachers.check_spaces(env)
    expert_return = teachers.expert_return
    if demos:
        expert_return = float(sum(demo.return_ for demo in demos) / len(demos))
    context = make_context(experiment, comm, env, demos, teachers, device)
    agent = loading.make_agent(settings, env, env.observation_size, context)
    allocate_replay_buffer(agent)
    init_summary = init_agent(agent, teachers.init, comm)
    info = {} if expert_return is None else {"expert_return": expert_return}
    experiment.create(env_id, describe_launch(settings, context, teachers.init, content), info)
    counters, episodes = Counters(), EpisodeLog(env.num_envs)
    unevaluated, recent_episodes, segments = dict[str, float](), [], list[Segment]()
    status = Status(experiment.logs, counters)
    if content:
        episodes = restore(content, agent, counters, env, comm, settings.train.rollout_len)
        unevaluated, recent_episodes = restore_unevaluated(content), restore_recent_episodes(content)
        status.saved_iteration = counters.iteration
        segments = restore_replay(content, agent, experiment.checkpoints, comm)
    try:
        # An iteration whose evaluation was interrupted is logged again.
        tracker = make_tracker(experiment, comm, counters.iteration - bool(unevaluated))
    except OSError as error:
        raise UserError(f"cannot write to {experiment.logs}: {error.strerror}") from None
    watchdog = start_watchdog(settings.common, launch, status)
    watchdog.other_processes = other_processes
    cleanup.callback(lambda: wait_for_uploads(tracker, watchdog))
    run = Training(
        experiment=experiment,
        agent=agent,
        env=env,
        eval_env=eval_env,
        make_eval_env=functools.partial(make_eval_env, env_id, env_kwargs, experiment.seed),
        envs=envs,
        comm=comm,
        counters=counters,
        status=status,
        tracker=tracker,
        watchdog=watchdog,
        episodes=episodes,
        unevaluated=unevaluated,
        expert_return=expert_return,
        recorder=recorder,
        replay=make_replay_files(agent, experiment, comm, segments),
        init_summary=init_summary,
        compiled=context.compile,
    )
    run.recent_episodes.extend(recent_episodes)
    if comm.rank == 0:
        log_header(run, len(demos))
    return run


def make_recorder(settings: Settings, env_id: str, comm: Comm) -> Recorder:
    """Return what records the videos of a training run: on rank 0 with ``--record_frequency``, another process."""
    if comm.rank != 0 or not settings.train.record_frequency:
        return Recorder()
    modules = settings.common.env_module.replace(",", " ").split()
    modules += filter(None, [settings.train.env_id.rpartition(":")[0]])
    return EpisodeRecorder(env_id, to_kwargs(settings.common.env_kwargs), modules)


def allocate_replay_buffer(agent: Agent) -> None:
    """Reserve the memory of a replay buffer, if the agent has one; raise a UserError if there is not enough."""
    if agent.replay_buffer is not None:
        try:
            agent.replay_buffer.allocate()
        except MemoryError as error:
            raise UserError(
                f"the replay buffer does not fit into memory, choose a smaller --buffer_size: {error}"
            ) from None


def make_replay_files(
    agent: Agent, experiment: ExperimentInitializer, comm: Comm, segments: list[Segment]
) -> ReplayFiles | None:
    """Return this worker's files of the replay buffer; None if the agent has none."""
    if agent.replay_buffer is None:
        return None
    enabled = experiment.settings.agent.save_buffer
    return ReplayFiles(experiment.checkpoints, comm.rank, comm.size, segments, enabled=enabled)


def open_envs(
    env_id: str, num_envs: int, env_kwargs: dict[str, Any], envs: contextlib.ExitStack, comm: Comm, seed: int
) -> tuple[VectorEnv, gymnasium.Env[Any, Any] | None]:
    """Return this worker's environments and one to evaluate in, which is None if it cannot exist beside them.

    Raises:
        UserError: if they cannot be made or cannot be trained in (collective).
    """
    checked_env = make_eval_env(env_id, env_kwargs, seed)
    try:
        comm.on_root(lambda: check_env(env_id, checked_env))
    except UserError:
        close_env(checked_env)
        raise
    eval_env: gymnasium.Env[Any, Any] | None = checked_env
    seed_global_rngs(make_seed(seed, Purpose.CONSTRUCTION, 1 + comm.rank * num_envs))
    try:
        env = environments.make_vector_env(env_id, num_envs, env_kwargs, eval_env)
    except Exception:  # environments raise arbitrary exceptions
        close_env(checked_env)
        eval_env = None
    if eval_env is None:  # raises again unless the two exclude each other
        env = environments.make_vector_env(env_id, num_envs, env_kwargs)
    for opened in (env, eval_env):
        if opened is not None:
            envs.callback(close_env, opened)
    return env, eval_env


def check_env(env_id: str, env: gymnasium.Env[Any, Any]) -> None:
    """Warn about what may disturb training; raise a UserError if the environment cannot be trained in."""
    for finding in environments.check_env(env_id, env):
        logger.warning(finding)


def load_demos(settings: Settings, env: VectorEnv) -> list[Episode]:
    """Return the demonstrations in ``--expert_path``, with actions in the policy's units; empty if it is not set.

    Raises:
        UserError: if they cannot be read, or do not match the environment.
    """
    imitation = settings.imitation
    if not imitation.expert_path:
        return []
    demos = dataset.read_demos(imitation.expert_path, imitation.num_demos)
    dataset.check_compatible(demos, imitation.expert_path, env.observation_size, env.action_space)
    return [dataclasses.replace(demo, actions=env.converter.to_policy(demo.actions)) for demo in demos]


def make_context(
    experiment: ExperimentInitializer,
    comm: Comm,
    env: VectorEnv,
    demos: list[Episode],
    teachers: loading.Teachers,
    device: str,
) -> AgentContext:
    """Return the context of the agent (collective); raises a UserError if ``--compile`` does not work."""
    settings, content = experiment.settings, experiment.checkpoint
    was_compiled = content["config"].get("compiled") if content else None
    can_benefit = should_compile(settings, comm.size, device, was_compiled, sum(map(len, demos)))
    return AgentContext(
        comm,
        seed=experiment.seed,
        iteration=content["counters"]["iteration"] if content else 0,
        num_envs=env.num_envs,
        device=device,
        compile=all(comm.allgather(can_benefit)),  # all workers must be able to
        demos=demos,
        imitation=settings.imitation,
        expert=teachers.expert.agent if teachers.expert else None,
        reward_model=teachers.reward.agent if teachers.reward else None,
    )


def init_agent(agent: Agent, init: loading.LoadedAgent | None, comm: Comm) -> str:
    """Initialize an agent from another one, the same on every worker (collective).

    Returns:
        A summary of what was copied and what starts from scratch; empty if there is no agent to start from.
    """
    if init is None:
        return ""
    copied = agent.init_from(init.agent)
    agent.load_state_dict(
        comm.broadcast(agent.state_dict())
    )  # workers may have read different files of a running run
    taken, new = (", ".join(name for name, value in copied.items() if value is fits) for fits in (True, False))
    source = f"{init.path} ({init.settings.train.algo} on {init.env_id}, iteration {init.iteration})"
    return f"initialized from {source}: {taken}" + (f"; from scratch: {new}" if new else "")


def describe_launch(
    settings: Settings,
    context: AgentContext,
    init: loading.LoadedAgent | None = None,
    content: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what affects the results of this launch in addition to its settings.

    Args:
        settings: of the run.
        context: of its agent.
        init: the agent that a new run starts from.
        content: the checkpoint that a resumed run continues from.
    """
    metadata: dict[str, Any] = {"compiled": context.compile, "device": context.device.partition(":")[0]}
    if settings.agent.learns_from_demos:
        metadata["demonstrations"] = dataset.checksum(context.demos, rewards=not settings.agent.LEARNS_FROM_DEMOS)
    if init is not None:
        metadata["init"] = f"iteration {init.iteration}, parameters {init.agent.parameter_hash():x}"
    elif content and "init" in content["config"]:
        metadata["init"] = content["config"]["init"]
    teachers: dict[str, Agent | None] = {"expert": context.expert, "reward": context.reward_model}
    return metadata | {name: f"{agent.parameter_hash():x}" for name, agent in teachers.items() if agent is not None}


def wait_for_uploads(tracker: Tracker, watchdog: Watchdog) -> None:
    """Wait for uploads, only briefly if the run was asked to stop."""
    watchdog.disarm()
    timeout = WANDB_EXIT_TIMEOUT_S if watchdog.should_exit_soon() else math.inf
    tracker.wait(timeout, lambda: watchdog.interrupted)


def make_tracker(experiment: ExperimentInitializer, comm: Comm, iteration: int) -> Tracker:
    """Return the trackers; ranks other than 0 have none."""
    if comm.rank != 0:
        return Trackers()
    progress = experiment.logs / "progress.csv"
    trackers: list[Tracker] = [CSVTracker(progress, iteration)]
    if not is_quiet():
        trackers.append(ConsoleTracker(experiment.name))
    tracking = experiment.settings.tracking
    if tracking.tensorboard:
        groups = {name: metric.group for name, metric in get_metrics(experiment.settings.train.algo).items()}
        # The CSV tracker has truncated `progress` to `iteration`.
        texts = {"settings": tensorboard.format_table(experiment.metadata())}
        hparams = experiment.hyper_parameters()
        trackers.append(TensorBoardTracker(experiment.logs / "tensorboard", progress, groups, hparams, texts))
    if tracking.wandb_project:
        trackers.append(
            WandbTracker(
                tracking,
                Path(experiment.settings.common.data_dir),
                experiment.run_id,
                files=[experiment.checkpoints / name for name in ("best.pt", "last.pt", "config.yaml")],
                name=experiment.name,
                group=experiment.group,
                config=experiment.metadata(),
            )
        )
    return Trackers(trackers)
