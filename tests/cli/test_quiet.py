"""`--quiet` prints only warnings, errors and the result."""

import pytest

from tests.support.one_run import QUICK, iterations


def test_quiet_run_prints_its_result_and_writes_all_files(milozero, tmp_path):
    result = milozero("--task=train", *QUICK, "--uuid=run", "--num_iters=1", "--quiet")
    assert result.returncode == 0
    (line,) = result.stdout.splitlines()
    assert line.startswith("finished: num_iters=1 reached after 1 iteration, 128 steps, ")
    assert result.stderr == ""
    logs = tmp_path / "data/logs/run"
    assert iterations(tmp_path) == [1]
    assert {path.name for path in logs.iterdir()} >= {"config.yaml", "status.json", "learning_curve.png"}
    assert "experiment run: ppo on CartPole-v1" in (logs / "log.txt").read_text()
    assert "logs:  " in (logs / "log.txt").read_text()
    # Only the launch that has the flag is quiet.
    resumed = milozero("--task=train", "--resume", "--uuid=run", "--num_iters=2")
    assert "resuming after iteration 1" in resumed.stdout


@pytest.mark.usefixtures("run")
def test_quiet_evaluation_and_report_print_their_result(milozero):
    result = milozero("--task=eval", "--model_path=data/checkpoints/run", "--num_trajs=2", "--quiet")
    (line,) = result.stdout.splitlines()
    assert line.startswith("return ")
    result = milozero("--task=report", "--study=run", "--format=csv", "--quiet")
    assert result.stdout.splitlines() == [f"report: {result.args[0].partition('=')[2]}/reports/run.csv"]


def test_warnings_and_errors_are_printed(milozero):
    endless = ("--env_id=tests.support.user_envs:Endless-v0", "--eval_max_steps=5")
    flags = [flag for flag in QUICK if "env_id" not in flag]
    result = milozero("--task=train", *flags, *endless, "--num_iters=1", "--quiet")
    first, second, last = result.stdout.splitlines()
    assert first.startswith("warning: tests.support.user_envs:Endless-v0 has no time limit: ")
    assert second.startswith("warning: training truncates episodes")
    assert last.startswith("finished: ")
    assert result.stderr == "warning: evaluation: 1 of 1 episode cut off after 5 steps (--eval_max_steps)\n"
    result = milozero("--task=train", "--resume", "--uuid=nowhere", "--quiet")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: --resume: there is no experiment")


@pytest.mark.parametrize("task", ["list_envs", "demos"])
def test_tasks_that_print_only_what_was_asked_for_refuse_it(milozero, task):
    result = milozero(f"--task={task}", "--quiet")
    assert (result.returncode, result.stderr) == (2, f"error: --quiet has no effect on --task={task}\n")


def test_quiet_study_prints_one_line(studies):
    flags = ("--env_bundle=CartPole", "--prefix=x", "--no-deploy_now", "--quiet")
    assert studies.run(studies.task(""), *flags) == (
        "study x: 1 job; 1 written, 0 already finished, 0 already active\n"
    )
    (line,) = studies.run("--status=x", "--quiet").splitlines()
    assert line.startswith("study x: 1 job: ")
