"""Videos during training, recorded by another process."""

import json

import imageio.v2

from milozero.reports import runs, scores, videos
from tests.support.one_run import assert_equal, logged_rows, parameters
from tests.support.wandb_runs import only_run

DRAWN = ("--task=train", "--env_id=tests.support.user_envs:Drawn-v0", "--num_envs=2", "--rollout_len=32")
DRAWN = (*DRAWN, "--batch_size=16", "--no-compile", "--eval_frequency=2", "--eval_episodes=2", "--num_iters=3")


def test_recording_changes_no_bit_and_its_videos_are_in_the_logs_in_wandb_and_in_the_report(
    server, in_process, tmp_path
):
    assert in_process(*DRAWN, "--uuid=plain").returncode == 0
    flags = ("--uuid=recorded", "--record_frequency=2", "--wandb_project=p")
    result = in_process(*DRAWN, *flags, env=server.environment)
    assert result.returncode == 0
    assert "record" not in result.stderr
    assert_equal(parameters(tmp_path, "recorded"), parameters(tmp_path, "plain"))
    assert logged_rows(tmp_path, "recorded") == logged_rows(tmp_path, "plain")

    folder = tmp_path / "data/logs/recorded/videos"
    names = ["episode_000.mp4", "results.json"]
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert written == [f"iter_{iteration}/{name}" for iteration in (2, 3) for name in names]
    frames = imageio.v2.mimread(folder / "iter_3/episode_000.mp4")
    assert [round(float(frame.mean()), -1) for frame in frames] == [20 * k for k in range(11)]
    results = json.loads((folder / "iter_3/results.json").read_text())
    assert (results["iteration"], results["episode_seeds"], len(results["episodes"])) == (3, "training", 1)

    uploaded = [content for name, content in only_run(server).files.items() if name.endswith(".mp4")]
    assert sorted(uploaded) == sorted(path.read_bytes() for path in folder.rglob("*.mp4"))
    captions = {row["video"]["caption"] for row in only_run(server).history if "video" in row}
    assert captions == {"iteration 2", "iteration 3"}

    study = scores.build_study(runs.read_runs(tmp_path / "data", "recorded"))
    newest, _ = videos.find_videos(tmp_path / "data", study)
    assert newest.path == folder / "iter_3/episode_000.mp4"
    assert newest.episode_return == results["episodes"][0]["return"]


def test_environment_that_cannot_be_rendered_is_mentioned_at_the_start_and_trained_in(in_process, tmp_path):
    plain = [flag.replace("Drawn", "Bounded") for flag in DRAWN]
    result = in_process(*plain, "--uuid=run", "--record_frequency=1")
    assert result.returncode == 0
    (line,) = [line for line in result.stderr.splitlines() if "record" in line]
    env_id = "tests.support.user_envs:Bounded-v0"
    assert line.startswith(f"warning: --record_frequency=1 records no videos: {env_id} cannot be rendered: its class")
    assert "finished: num_iters=3 reached" in result.stdout
    assert not (tmp_path / "data/logs/run/videos").exists()
