"""What a run measures: each metric is described once, those of an algorithm in its agent's file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What one number that a run logs is."""

    group: str  # that TensorBoard shows it in
    unit: str
    meaning: str  # its definition; Markdown
    healthy: str  # what to expect, and when to worry
    source: str = ""  # the paper and the equation, where it is from one


RUN_METRICS = {  # of every training run: what `orchestrator.py` logs besides what the agent returns
    "iteration": Metric("time", "iterations", "rollouts that were learned from", "grows by 1"),
    "timesteps": Metric("time", "environment steps", "steps so far", "grows by `rollout_len` × workers"),
    "episodes": Metric("time", "episodes", "episodes that have ended so far; cut-off ones are left out", "grows"),
    "progress": Metric("time", "share", "of `num_timesteps` or `num_iters`, whichever is nearer its end", "0 to 1"),
    "return_mean": Metric(
        "train",
        "reward",
        "mean return of the episodes that ended in this iteration: the sum of their rewards, neither discounted nor "
        "scaled, with sampled actions",
        "rises, with noise; a fall for many iterations means steps that are too large",
    ),
    "return_min": Metric("train", "reward", "the lowest of these returns", "far below the mean: some episodes fail"),
    "return_max": Metric("train", "reward", "the highest of these returns", "shows what the policy can already do"),
    "length_mean": Metric(
        "train",
        "steps",
        "mean length of these episodes",
        "where falling ends an episode, rises with the return, up to the task's limit",
    ),
    "eval_return": Metric(
        "eval",
        "reward",
        "mean return of `eval_episodes` episodes with the deterministic policy, their seeds always the same; every "
        "`eval_frequency` iterations and at the end",
        "the number to judge a run by; later in a run mostly above `return_mean`. Worry where it stays far below: "
        "the policy needs its noise",
    ),
    "best_eval_return": Metric(
        "eval", "reward", "the highest `eval_return` so far, that of `best.pt`", "rises in steps"
    ),
    "seconds": Metric(
        "time", "s", "wall-clock time of training so far, over all launches of the run", "grows evenly"
    ),
    "steps_per_second": Metric(
        "time", "steps/s", "`timesteps` / `seconds`, evaluations and checkpoints included", "steady after the start"
    ),
    "time_left": Metric(
        "time", "s", "until the run ends, if it goes on as fast, at most until `execution_time`", "falls to 0"
    ),
}
EVALUATION_METRICS = {  # of a checkpoint that is played
    "return_mean": Metric(
        "eval", "reward", "mean return of the episodes, with the deterministic policy", "as `eval_return`"
    ),
    "return_std": Metric(
        "eval",
        "reward",
        "standard deviation of the returns over the episodes (of these, not an estimate for more)",
        "small beside the mean; large where some episodes fail",
    ),
    "length_mean": Metric("eval", "steps", "mean length of the episodes", "as in training"),
}
