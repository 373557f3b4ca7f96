"""The training loop, with fakes."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from milozero import orchestrator
from milozero.agents.episodes import INTERRUPTED, EpisodeStats
from milozero.agents.ppo_config import PPOConfig
from milozero.agents.sac_config import SACConfig
from milozero.experiment.settings import TrainConfig
from milozero.experiment.status import Counters
from milozero.helpers.comm import Comm
from milozero.orchestrator import do_iteration, evaluation_metrics
from milozero.training.run import Training, restore_recent_episodes
from tests.support.fakes import CountingEnv, on_workers


def make_run(comm):
    agent = SimpleNamespace(update=lambda rollout, progress: {})
    settings = SimpleNamespace(train=TrainConfig(), agent=PPOConfig())
    experiment, counters = SimpleNamespace(settings=settings), Counters()
    return Training(
        experiment, agent, None, None, None, None, comm, counters, None, None, None, None, None, "", False
    )


def iterate(run, *episodes):
    """Return the metrics of iterations in which these `episodes` ended."""
    rewards = np.zeros((TrainConfig().rollout_len, 1))
    return [do_iteration(iter([SimpleNamespace(episodes=list(each), rewards=rewards)]), run) for each in episodes]


def test_rolling_means_are_over_the_last_100_episodes():
    ended = [
        [EpisodeStats(float(k), 2 * k, t) for t, k in enumerate(range(start, stop))]
        for start, stop in ((0, 0), (0, 60), (60, 90), (90, 90), (90, 130))
    ]
    metrics = iterate(make_run(Comm()), *ended)
    assert math.isnan(metrics[0]["return_mean_100"])
    expected = [59 / 2, 89 / 2, 89 / 2, (30 + 129) / 2]  # of 0 … 59, 0 … 89, 0 … 89, 30 … 129
    assert [each["return_mean_100"] for each in metrics[1:]] == expected
    assert [each["length_mean_100"] for each in metrics[1:]] == [2 * mean for mean in expected]
    assert math.isnan(metrics[3]["return_mean"])
    assert metrics[4]["return_mean"] == (90 + 129) / 2


def test_rolling_means_are_over_the_latest_episodes_of_all_workers():
    """Two workers with 80 episodes each: the last 100 are the 50 latest of each."""

    def work(comm):
        episodes = [EpisodeStats(float(t), 1, t) for t in range(80)]
        return iterate(make_run(comm), episodes)[0]["return_mean_100"]

    assert on_workers(2, work) == [(30 + 79) / 2] * 2


def test_rolling_means_continue_exactly_after_a_resume():
    rounds = [[EpisodeStats(0.1 * k**2 + number, k, k) for k in range(40)] for number in range(6)]
    straight = make_run(Comm())
    expected = iterate(straight, *rounds)
    first, resumed = make_run(Comm()), make_run(Comm())
    iterate(first, *rounds[:4])
    first.agent.state_dict = first.experiment.metadata = dict
    resumed.recent_episodes.extend(restore_recent_episodes(first._content([])))
    for one, other in zip(iterate(resumed, *rounds[4:]), expected[4:], strict=True):
        assert one["return_mean_100"] == other["return_mean_100"]
        assert one["length_mean_100"] == other["length_mean_100"]


def test_evaluation_metrics_equal_numbers_worked_by_hand():
    metrics = evaluation_metrics([1.0, 3.0], 7.0)
    assert metrics == pytest.approx(
        {
            "eval_return": 2.0,
            "eval_return_std": 1.0,
            "eval_return_min": 1.0,
            "eval_return_max": 3.0,
            "best_eval_return": 7.0,
        }
    )
    assert all(math.isnan(value) for value in evaluation_metrics([], -math.inf).values())


def test_iteration_of_several_rollouts_orders_its_episodes_and_averages_its_metrics():
    """Two rollouts of ten steps; a metric that has no value in an update does not count."""
    agent = SimpleNamespace(losses=iter([{"q_loss": 3.0, "td_error": math.nan}, {"q_loss": 5.0, "td_error": 7.0}]))
    agent.update = lambda rollout, progress: next(agent.losses)
    run = make_run(Comm())
    run.agent = agent
    run.experiment.settings.agent = SACConfig(train_freq=10)
    run.experiment.settings.train = TrainConfig(rollout_len=20, num_envs=1)
    rollouts = [
        SimpleNamespace(rewards=np.zeros((10, 1)), episodes=[EpisodeStats(return_, 4, 3)]) for return_ in (1.0, 2.0)
    ]
    metrics = do_iteration(iter(rollouts), run)
    assert (metrics["q_loss"], metrics["td_error"]) == (4.0, 7.0)
    assert (metrics["iteration"], metrics["timesteps"], metrics["episodes"]) == (1, 20, 2)
    assert [(episode.return_, episode.end) for episode in run.recent_episodes] == [(1.0, 3), (2.0, 13)]


def make_starting_run(comm, problem, reason=""):
    watchdog = SimpleNamespace(start_iteration=lambda _: None, agree_to_stop=lambda: reason, should_interrupt=bool)
    return SimpleNamespace(
        comm=comm,
        env=CountingEnv([9]),
        watchdog=watchdog,
        episodes=SimpleNamespace(start_envs=lambda *_: problem),
        experiment=SimpleNamespace(seed=3),
        counters=SimpleNamespace(iteration=7),
        break_episodes=lambda: None,
    )


def test_workers_whose_environments_are_not_restored_start_new_episodes(caplog):
    def start(comm):
        run = make_starting_run(comm, "they differ" if comm.rank == 1 else "")
        saved = run.episodes
        assert orchestrator.start_envs(run) == ""
        return run.episodes is saved, getattr(run.episodes, "start", None)

    assert on_workers(2, start) == [(True, None), (False, 7)]
    assert caplog.text.count("not bit-exact: new episodes start, because they differ") == 1


def test_nothing_is_said_if_all_environments_are_restored(caplog):
    run = make_starting_run(Comm(), "")
    saved = run.episodes
    assert orchestrator.start_envs(run) == ""
    assert run.episodes is saved
    assert not caplog.text


@pytest.mark.parametrize(
    ("reason", "expected"), [("SIGTERM received", "SIGTERM received"), ("", "execution_time used up")]
)
def test_run_that_is_stopped_while_it_restores_its_environments_keeps_what_was_saved(reason, expected):
    """The clock of one worker may be ahead of that of the first one, which decides."""
    run = make_starting_run(Comm(), INTERRUPTED, reason)
    saved = run.episodes
    assert orchestrator.start_envs(run) == expected
    assert run.episodes is saved


def test_run_that_is_stopped_just_after_it_restored_its_environments_makes_progress():
    assert orchestrator.start_envs(make_starting_run(Comm(), "", "SIGTERM received")) == ""
