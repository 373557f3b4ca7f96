"""The process that records videos, with short programs in its place."""

import os

import pytest

from milozero.evaluation import recording
from milozero.evaluation.recording import EpisodeRecorder, checkpoint_path
from tests.support.one_run import wait_for

START = """
import json, os, pathlib, sys, time
request = json.loads(sys.argv[1])[1]
folder = pathlib.Path(request["folder"]) if "folder" in request else None
"""
RECORD = """
if folder:
    (folder.parent / f".{folder.name}.pt").unlink()
    (folder / "episode_000.mp4").write_bytes(b"video")
"""
WAIT = """
while folder and not (folder.parent / "go").exists():
    time.sleep(0.01)
"""


@pytest.fixture
def start(monkeypatch):
    """Start a recorder whose process runs a short program."""
    recorders = []

    def run(program=RECORD):
        monkeypatch.setattr(recording, "PROGRAM", START + program)
        recorders.append(EpisodeRecorder("Hopper-v5", {}))
        return recorders[-1]

    yield run
    for recorder in recorders:
        recorder.close()


def record(recorder, folder, iteration, *, is_last=False):
    recorder.start(folder, iteration, lambda: b"checkpoint", is_last=is_last)


def never():
    return False


def test_complete_video_is_logged_once(start, tmp_path):
    recorder, logged = start(), []
    assert recorder.check() == ""
    record(recorder, tmp_path / "videos", 3)
    recorder._current.process.wait()
    for _ in range(2):
        recorder.collect(lambda *video: logged.append(video))
    assert logged == [(tmp_path / "videos/iter_3/episode_000.mp4", "iteration 3")]
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["iter_3"]


def test_run_goes_on_while_a_video_is_recorded_and_waits_only_for_the_last(start, tmp_path, caplog):
    recorder, logged = start(WAIT + RECORD), []
    for iteration, is_last in ((1, False), (2, False), (3, False), (4, True)):
        record(recorder, tmp_path, iteration, is_last=is_last)
        recorder.collect(lambda *video: logged.append(video))
    assert logged == []
    assert [entry.getMessage() for entry in caplog.records] == [
        "skipping videos: recording one takes longer than --record_frequency iterations"
    ]
    (tmp_path / "go").touch()
    recorder.finish(lambda _, caption: logged.append(caption), never)
    assert logged == ["iteration 1", "iteration 4"]
    assert {path.name for path in tmp_path.iterdir()} == {"go", "iter_1", "iter_4"}


def test_interrupted_wait_leaves_no_process_and_no_files(start, tmp_path):
    recorder = start(WAIT)
    record(recorder, tmp_path, 1, is_last=True)
    process = recorder._current.process
    recorder.finish(lambda *_: pytest.fail("there is no video"), lambda: True)
    assert process.returncode is not None
    assert list(tmp_path.iterdir()) == []


def test_recording_that_hangs_is_given_up(start, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(recording, "FINISH_TIMEOUT_S", 0.05)
    recorder = start(WAIT)
    record(recorder, tmp_path, 7, is_last=True)
    recorder.finish(lambda *_: None, never)
    assert caplog.messages == ["no video of iteration 7: it took too long"]


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("sys.exit('first\\ncannot render: no EGL')", "cannot render: no EGL"),
        ("os.abort()", "the renderer crashed (SIGABRT)"),
        ("os._exit(3)", "the renderer ended with exit code 3"),
    ],
)
def test_machine_that_cannot_render_records_nothing(start, tmp_path, program, problem):
    recorder = start(program)
    assert recorder.check() == problem
    recorder.start(tmp_path, 1, lambda: pytest.fail("made a checkpoint"), is_last=True)
    assert list(tmp_path.iterdir()) == []


def test_renderer_that_hangs_cannot_render(start, monkeypatch):
    monkeypatch.setattr(recording, "CHECK_TIMEOUT_S", 0.05)
    assert start("time.sleep(60)").check() == "rendering one frame took longer than 0 s"


def test_failed_recording_is_one_warning_and_the_next_is_tried(start, tmp_path, caplog):
    recorder = start("if folder: sys.exit('no space left')")
    assert recorder.check() == ""
    for iteration in (1, 2):
        record(recorder, tmp_path, iteration)
        recorder._current.process.wait()
        recorder.collect(lambda *_: pytest.fail("there is no video"))
    assert caplog.messages == [f"no video of iteration {k}: no space left" for k in (1, 2)]
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_created_is_a_warning(start, tmp_path, caplog):
    (tmp_path / "videos").write_text("in the way")
    record(start(), tmp_path / "videos", 1)
    assert caplog.messages == [f"no video of iteration 1: Not a directory ({tmp_path}/videos/iter_1)"]


def test_process_is_no_worker_of_the_launcher(start, tmp_path, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    recorder = start("if folder: (folder / 'env').write_text(' '.join(os.environ))")
    record(recorder, tmp_path, 1)
    recorder._current.process.wait()
    assert "OMPI_COMM_WORLD_SIZE" not in (tmp_path / "iter_1/env").read_text().split()


SLEEP = """
import pathlib, time
from milozero.evaluation import recording
recording.check_rendering = lambda folder, _: (pathlib.Path(folder, "sleeps").touch(), time.sleep(60))
"""


def test_process_ends_with_a_killed_run(tmp_path, monkeypatch):
    path, program = "sys.path, request = json.loads(sys.argv[1])\n", recording.PROGRAM
    monkeypatch.setattr(recording, "PROGRAM", program.replace(path, path + SLEEP))
    run = os.fork()
    if not run:
        try:
            recorder = EpisodeRecorder(str(tmp_path), {})
            (tmp_path / "pid").write_text(str(recorder._check.pid))
            wait_for((tmp_path / "sleeps").exists)
        finally:
            os._exit(0)
    os.waitpid(run, 0)
    process = (tmp_path / "pid").read_text()
    assert (tmp_path / "sleeps").exists()
    wait_for(lambda: not os.path.exists(f"/proc/{process}"), seconds=10)


def test_checkpoint_is_beside_its_folder(tmp_path):
    assert checkpoint_path(tmp_path / "iter_3") == tmp_path / ".iter_3.pt"
