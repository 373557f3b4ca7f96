"""The metrics of training runs and evaluations; agents document their own metrics in their files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """Documentation of one metric, in Markdown."""

    group: str  # the prefix of its TensorBoard tag
    unit: str
    meaning: str
    healthy: str  # what to expect, and when to worry
    source: str = ""  # paper and equation, if any


RUN_METRICS = {  # of every training run; `orchestrator.py` adds the agent's metrics
    "iteration": Metric("time", "iterations", "rollouts that the agent has learned from", "grows by 1"),
    "timesteps": Metric("time", "environment steps", "steps so far", "grows by `rollout_len` × workers"),
    "episodes": Metric("time", "episodes", "episodes that have ended so far; cut-off episodes do not count", "grows"),
    "progress": Metric(
        "time", "fraction", "completed fraction of `num_timesteps` or `num_iters`, whichever is larger", "0 to 1"
    ),
    "return_mean": Metric(
        "train",
        "reward",
        "mean return of the episodes that ended in this iteration, with sampled actions; the return is the sum of "
        "raw rewards, neither discounted nor scaled",
        "rises, with noise; if it falls for many iterations, the updates are too large",
    ),
    "return_min": Metric(
        "train", "reward", "lowest of these returns", "if it is far below the mean, some episodes fail"
    ),
    "return_max": Metric("train", "reward", "highest of these returns", "shows what the policy can already do"),
    "length_mean": Metric(
        "train",
        "steps",
        "mean length of these episodes",
        "rises with the return up to the time limit, if falling ends an episode",
    ),
    "return_mean_100": Metric(
        "train",
        "reward",
        "mean return of the last 100 training episodes of all workers, or of all episodes if there are fewer",
        "rises more smoothly than `return_mean`; not empty in iterations in which no episode ended",
        "as `ep_rew_mean` of Stable-Baselines3",
    ),
    "length_mean_100": Metric(
        "train", "steps", "mean length of these episodes", "as `length_mean`", "as `ep_len_mean` of Stable-Baselines3"
    ),
    "eval_return": Metric(
        "eval",
        "reward",
        "mean return of `eval_episodes` episodes with the deterministic policy (sampled actions with "
        "`eval_stochastic`) and fixed seeds, every `eval_frequency` iterations and at the end of the run",
        "the metric to judge a run by; late in a run usually above `return_mean`. If it stays far below, the policy "
        "relies on its noise",
    ),
    "eval_return_std": Metric(
        "eval",
        "reward",
        "standard deviation of the returns of these episodes (population, not sample)",
        "small compared with `eval_return`; if it is large, some episodes fail",
    ),
    "eval_return_min": Metric("eval", "reward", "lowest of these returns", "as `return_min`"),
    "eval_return_max": Metric("eval", "reward", "highest of these returns", "as `return_max`"),
    "best_eval_return": Metric("eval", "reward", "highest `eval_return` so far, that of `best.pt`", "rises in steps"),
    "seconds": Metric("time", "s", "wall-clock time of training so far, over all launches", "grows evenly"),
    "steps_per_second": Metric(
        "time", "steps/s", "`timesteps` / `seconds`, including evaluations and checkpoints", "steady after the start"
    ),
    "time_left": Metric(
        "time",
        "s",
        "estimated time until the run ends, at most until `execution_time` is over; empty in the first iteration",
        "falls to 0",
    ),
}
EVALUATION_METRICS = {  # of `--task=eval`
    "return_mean": Metric(
        "eval",
        "reward",
        "mean return of the episodes, with the deterministic policy, or with sampled actions if `eval_stochastic` is "
        "true",
        "as `eval_return`; of `best.pt` often a little lower, because these episodes did not select it",
    ),
    "return_std": Metric(
        "eval",
        "reward",
        "standard deviation of the returns over the episodes (population, not sample)",
        "small compared with the mean; if it is large, some episodes fail",
    ),
    "return_min": Metric("eval", "reward", "lowest of these returns", "as in training"),
    "return_max": Metric("eval", "reward", "highest of these returns", "as in training"),
    "length_mean": Metric("eval", "steps", "mean length of the episodes", "as in training"),
}
