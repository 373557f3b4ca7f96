"""Check that settings, each valid on its own, fit together."""

from __future__ import annotations

from milozero.experiment.settings import EvalConfig, Settings, used_settings
from milozero.helpers.errors import UserError
from milozero.tracking.names import check_wandb_name, parse_run_path

EVERY_TASK = {"task", "config", "num_workers", "data_dir"}  # common settings that all tasks use


def validate(settings: Settings) -> None:
    """Check that settings fit together.

    Raises:
        UserError: if they do not; the message says what to change.
    """
    if settings.common.task == "train":
        _validate_training(settings)
    elif settings.common.task == "eval":
        _validate_evaluation(settings.evaluation, tensorboard=settings.tracking.tensorboard)
    else:
        _validate_reader(settings)
    _validate_wandb_names(settings)


def _validate_training(settings: Settings) -> None:
    train, agent = settings.train, settings.agent
    if train.rollout_len % train.num_envs:
        raise UserError(f"--rollout_len={train.rollout_len} is not a multiple of --num_envs={train.num_envs}")
    interval = agent.update_interval(train.rollout_len)
    if interval % train.num_envs or train.rollout_len % interval:
        raise UserError(
            f"--train_freq={interval} must be a multiple of --num_envs={train.num_envs} and divide "
            f"--rollout_len={train.rollout_len}"
        )
    if getattr(agent, "learning_starts", 0) >= train.num_timesteps:
        raise UserError(
            f"--learning_starts={agent.learning_starts} must be less than --num_timesteps={train.num_timesteps}: "
            "otherwise nothing is learned"
        )
    for name in ("batch_size", "d_batch_size") if agent.LEARNS_FROM_ROLLOUTS else ():
        if (size := getattr(agent, name, 0)) > train.rollout_len:
            raise UserError(f"--{name}={size} is larger than --rollout_len={train.rollout_len}")
    if getattr(agent, "rpo_alpha", 0) and agent.target_kl:
        raise UserError("--target_kl cannot be combined with --rpo_alpha, whose noise counts as divergence")
    if getattr(agent, "init_log_std", None) is not None and not agent.init_from:
        raise UserError("--init_log_std needs --init_from; without it, use --log_std_init")
    if getattr(agent, "init_value_iters", 0) and not agent.init_from:
        raise UserError("--init_value_iters needs --init_from: without it, all networks start from scratch")
    if agent.init_from and getattr(agent, "bc_pretrain_epochs", 0):
        raise UserError("--init_from cannot be combined with --bc_pretrain_epochs: both initialize the policy")
    if getattr(agent, "d_absorbing", False) and agent.gamma == 1.0:
        raise UserError("--d_absorbing needs a --gamma below 1: the return of the absorbing state would diverge")
    if agent.learns_from_demos and not settings.imitation.expert_path:
        mix = "" if agent.LEARNS_FROM_DEMOS else f" with --expert_mix={agent.expert_mix}"
        raise UserError(
            f"--algo={train.algo}{mix} learns from demonstrations: --expert_path=data/demos/<environment>"
        )
    if agent.LEARNS_FROM_DEMOS and getattr(agent, "n_step", 1) > 1:
        raise UserError(f"--n_step={agent.n_step}: --algo={train.algo} supports only 1, because it replaces rewards")
    share = getattr(agent, "expert_mix", 0.0)
    if share and round(share * agent.batch_size) in (0, agent.batch_size):
        raise UserError(
            f"--expert_mix={share}: a batch of --batch_size={agent.batch_size} needs steps of the expert and of the "
            "policy"
        )
    if getattr(agent, "expert_model", None) == "":
        raise UserError(f"--algo={train.algo} queries an expert: --expert_model=data/checkpoints/<experiment>")


def _validate_evaluation(config: EvalConfig, *, tensorboard: bool) -> None:
    if not config.model_path and not config.wandb_run_path:
        raise UserError("--task=eval needs --model_path=data/checkpoints/<experiment>, or --wandb_run_path")
    if config.model_path and config.wandb_run_path:
        raise UserError("--model_path and --wandb_run_path exclude each other: each names a checkpoint")
    if config.wandb_download_replace and not config.wandb_run_path:
        raise UserError("--wandb_download_replace needs --wandb_run_path=user/project/run")
    if config.wandb_run_path:
        parse_run_path(config.wandb_run_path)
    if tensorboard:
        raise UserError("--tensorboard belongs to --task=train, not to --task=eval")


def _validate_reader(settings: Settings) -> None:
    """Check the settings of tasks that only read: list_envs, demos, report."""
    task = settings.common.task
    own = used_settings(task, settings.train.algo).keys() - vars(settings.common).keys()
    if task == "report":  # the others print nothing but what was asked for
        own |= {"quiet"}
    if unused := sorted(settings.explicit - own - EVERY_TASK):
        raise UserError(f"--{unused[0]} has no effect on --task={task}")
    if task == "demos" and not settings.imitation.expert_path:
        raise UserError("--task=demos needs --expert_path, e.g. data/demos/<environment>")
    if task == "report" and not settings.report.study.strip(", "):
        raise UserError("--task=report needs --study=<prefix>, the name of a study or of runs in data/logs")


def _validate_wandb_names(settings: Settings) -> None:
    """Check the Weights & Biases names that were set explicitly, rather than read from a checkpoint."""
    for name in sorted({"wandb_project", "wandb_entity"} & settings.explicit):
        value = getattr(settings.tracking, name)
        try:
            check_wandb_name(value)
        except UserError as error:
            raise UserError(f"--{name}={value}: {error}") from None
