"""The videos of the report's page."""

import os

import pytest

from milozero.reports import page, videos
from milozero.reports.runs import STEPS, read_runs
from milozero.reports.scores import build_study
from tests.support import runs as logs


@pytest.fixture(autouse=True)
def _one_axis(monkeypatch):
    """Draw curves over environment steps only, which takes a third of the time."""
    monkeypatch.setattr(page, "PLOTTED_AXES", (STEPS,))


def study(tmp_path):
    return build_study(read_runs(tmp_path, "s"))


def html(tmp_path):
    return page.render_page(study(tmp_path), "s", tmp_path).decode()


def write_video(tmp_path, run, age, size=10, episode=0, folder="evaluations/{}/best"):
    path = tmp_path / folder.format(run) / f"episode_{episode:03}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_page_shows_one_video_per_environment_and_method_then_the_newest(tmp_path):
    for env_id in ("Ant-v5", "Hopper-v5"):
        logs.log_run(tmp_path, f"s.{env_id}", env_id)
    for episode in range(8):
        write_video(tmp_path, "s.Ant-v5", age=episode, episode=episode)
    old = write_video(tmp_path, "s.Hopper-v5", age=1000)
    (old.parent / "results.json").write_text('{"episodes": [{"return": 123.4}]}')
    all_videos = videos.find_videos(tmp_path, study(tmp_path))
    selected = videos.select_videos(all_videos)
    assert (len(all_videos), len(selected)) == (9, videos.MAX_VIDEOS)
    assert [video.path.stem[-1] for video in selected] == ["0", "0", "1", "2", "3", "4"]
    assert selected[1].path == old
    assert [video.episode_return for video in selected[:2]] == [None, 123.4]
    text = html(tmp_path)
    assert text.count("<video") == videos.MAX_VIDEOS
    assert "return 123.4" in text
    assert "3 older or larger videos omitted" in text


def test_caption_of_a_video_is_its_own_episodes_return(tmp_path):
    """The evaluation was stopped: the second of two workers did not finish episode 1."""
    logs.log_run(tmp_path, "s")
    paths = [write_video(tmp_path, "s", age=0, episode=episode) for episode in (0, 2)]
    episodes = '[{"index": 0, "return": 1.0}, {"index": 2, "return": 3.0}]'
    (paths[0].parent / "results.json").write_text(f'{{"episodes": {episodes}}}')
    found = videos.find_videos(tmp_path, study(tmp_path))
    assert [(video.episode, video.episode_return) for video in found] == [(0, 1.0), (2, 3.0)]


def test_caption_of_a_video_names_its_evaluation_or_iteration(tmp_path):
    logs.log_run(tmp_path, "s")
    for age, folder in enumerate(("evaluations/{}/best", "evaluations/{}/iter_7", "logs/{}/videos/iter_20")):
        write_video(tmp_path, "s", age, folder=folder)
    found = videos.find_videos(tmp_path, study(tmp_path))
    assert [video.source for video in found] == ["evaluation best", "evaluation iter_7", "iteration 20"]
    assert "s, iteration 20, episode 0" in html(tmp_path)


def test_video_that_is_being_recorded_is_not_shown(tmp_path):
    logs.log_run(tmp_path, "s")
    video = write_video(tmp_path, "s", age=0)
    video.rename(video.with_name(f".{video.name}.tmp.mp4"))
    assert videos.find_videos(tmp_path, study(tmp_path)) == []


def test_videos_beyond_the_size_limit_are_omitted(tmp_path):
    logs.log_run(tmp_path, "s")
    for episode, size in enumerate((20, 6, 5)):
        write_video(tmp_path, "s", episode, size * 2**20, episode)
    selected = videos.select_videos(videos.find_videos(tmp_path, study(tmp_path)))
    assert [video.size >> 20 for video in selected] == [20, 5]


def test_page_counts_omitted_videos_if_all_are_too_large(tmp_path):
    logs.log_run(tmp_path, "s")
    write_video(tmp_path, "s", 0, 30 * 2**20)
    assert "1 older or larger video omitted" in html(tmp_path)
