"""The TensorBoard tracker's event files, read by TensorBoard itself."""

import importlib.util
import os
import subprocess
import sys
import time

import pytest

from milozero import main
from milozero.tracking.csv import CSVTracker
from milozero.tracking.tensorboard import TensorBoardTracker, format_table, read_timed_rows
from milozero.tracking.tracker import TrackingConfig
from tests.support import ROOT
from tests.support.fakes import FullDisk, events_in, tabs_in

NAN = float("nan")
GROUPS = {"return": "train", "eval": "eval", "timesteps": "time"}


def start(folder, iteration=0):
    """Return the trackers of a run that starts, or resumes after an iteration."""
    csv = CSVTracker(folder / "progress.csv", iteration)
    return csv, TensorBoardTracker(folder / "tensorboard", folder / "progress.csv", GROUPS)


def log(trackers, iterations):
    for k in iterations:
        metrics = {"iteration": k, "timesteps": 100 * k, "seconds": 2.0 * k, "return": k / 2}
        metrics["eval"] = float(k) if k % 3 == 0 else NAN
        for tracker in trackers:
            tracker.log(metrics, 100 * k)


def run(folder, iterations, iteration=0):
    trackers = start(folder, iteration)
    log(trackers, iterations)
    for tracker in trackers:
        tracker.close()


def expected_events(last):
    return {
        "other/iteration": [(100 * k, k) for k in range(1, last + 1)],
        "time/timesteps": [(100 * k, 100 * k) for k in range(1, last + 1)],
        "other/seconds": [(100 * k, 2 * k) for k in range(1, last + 1)],
        "train/return": [(100 * k, k / 2) for k in range(1, last + 1)],
        "eval/eval": [(100 * k, k) for k in range(3, last + 1, 3)],
    }


def test_each_metric_has_its_group_and_nans_are_omitted(tmp_path):
    run(tmp_path, range(1, 8))
    assert events_in(tmp_path / "tensorboard") == expected_events(7)


def test_tabs_hparams_and_text_show_the_settings_also_of_a_resumed_run(tmp_path):
    hparams = {"p_lr": 3e-4, "epochs": 10, "algo": "ppo", "normalize": True}
    for iteration in (0, 1):
        texts = {"settings": format_table({"p_lr": 3e-4, "env_kwargs": "a|b", "config": ""})}
        csv = CSVTracker(tmp_path / "progress.csv", iteration)
        tracker = TensorBoardTracker(tmp_path / "tensorboard", tmp_path / "progress.csv", GROUPS, hparams, texts)
        log([csv, tracker], [iteration + 1])
        tracker.close()
    assert events_in(tmp_path / "tensorboard")["train/return"] == [(100, 0.5), (200, 1.0)]
    assert tabs_in(tmp_path / "tensorboard") == (
        hparams,
        {"settings": "| setting | value |\n|---|---|\n| p_lr | `0.0003` |\n| env_kwargs | `a\\|b` |\n| config |  |"},
    )


def test_event_is_written_immediately(tmp_path):
    log(start(tmp_path), [1, 2])
    assert events_in(tmp_path / "tensorboard")["train/return"] == [(100, 0.5), (200, 1.0)]


def test_run_killed_after_its_checkpoint_and_resumed_twice_has_each_row_once(tmp_path):
    log(start(tmp_path), range(1, 8))
    log(start(tmp_path, 5), range(6, 10))  # killed again, before another checkpoint
    run(tmp_path, [6], 5)
    run(tmp_path, range(7, 10), 6)
    assert events_in(tmp_path / "tensorboard") == expected_events(9)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_rows_after_the_checkpoint_are_removed_on_resume(tmp_path):
    log(start(tmp_path), range(1, 8))
    run(tmp_path, [], 5)
    assert events_in(tmp_path / "tensorboard") == expected_events(5)


def test_damaged_event_file_is_complete_after_resuming(tmp_path):
    run(tmp_path, range(1, 4))
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert len(events_in(tmp_path / "tensorboard")["train/return"]) == 2
    run(tmp_path, [4], 3)
    assert events_in(tmp_path / "tensorboard") == expected_events(4)


def test_run_resumed_with_tensorboard_for_the_first_time_has_its_history(tmp_path):
    csv = CSVTracker(tmp_path / "progress.csv")
    log([csv], [1, 2])
    csv.close()
    run(tmp_path, [3], 2)
    assert events_in(tmp_path / "tensorboard") == expected_events(3)


def test_other_files_in_the_folder_are_kept(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard/notes.txt").write_text("mine")
    run(tmp_path, [1])
    assert (tmp_path / "tensorboard/notes.txt").read_text() == "mine"


def test_wall_times_of_earlier_rows_keep_their_distances(tmp_path):
    run(tmp_path, [1, 2, 5])
    first, second, last = (wall_time for wall_time, _ in read_timed_rows(tmp_path / "progress.csv"))
    assert (last - second, last - first) == pytest.approx((6.0, 8.0), abs=1e-3)
    assert last == pytest.approx(time.time(), abs=10)


def test_events_that_a_full_disk_rejects_are_written_later(tmp_path, caplog):
    _, tracker = start(tmp_path)
    log([tracker], [1])
    disk = FullDisk.under(tracker._file)
    disk.room = 100  # half an event
    log([tracker], [2, 3, 4])
    tracker.flush()
    assert len(events_in(tmp_path / "tensorboard")["train/return"]) == 1
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    disk.room = 10**6
    tracker.close()
    assert events_in(tmp_path / "tensorboard") == expected_events(4)


def test_disk_that_stays_full_only_warns(tmp_path, caplog, monkeypatch):
    _, tracker = start(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, tracker._file._file.fileno())
    os.close(full)
    monkeypatch.setattr(os.path, "samestat", lambda *_: True)  # so that it does not count as replaced
    log([tracker], range(1, 5))
    tracker.flush()
    tracker.close()
    (record,) = caplog.records
    assert record.getMessage().startswith(f"cannot write to {tmp_path}/tensorboard/events.out.tfevents.")
    assert record.getMessage().endswith(" (No space left on device); buffering until it works")


def test_folder_that_cannot_be_created_is_a_warning(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("in the way")
    run(tmp_path, [1, 2])
    (record,) = caplog.records
    assert record.getMessage().startswith("TensorBoard logging is disabled: ")
    assert str(tmp_path / "tensorboard") in record.getMessage()


@pytest.mark.parametrize("content", ["iteration,return\n1,2\n", "iteration,timesteps,seconds\n1,,\n"])
def test_invalid_progress_file_is_a_warning(tmp_path, caplog, content):
    (tmp_path / "progress.csv").write_text(content)
    run(tmp_path, [2], 1)
    assert "TensorBoard logging is disabled: " in caplog.text


def test_deleted_folder_does_not_stop_the_run(tmp_path):
    trackers = start(tmp_path)
    log(trackers, [1])
    for path in (tmp_path / "tensorboard").iterdir():
        path.unlink()
    (tmp_path / "tensorboard").rmdir()
    log(trackers, [2])
    trackers[1].close()


def test_missing_package_is_a_user_error_before_anything_is_written(tmp_path, capfd, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: find(name, *more) if name != "tensorboard" else None
    )
    short = ("--num_timesteps=16", "--rollout_len=16", "--batch_size=16")
    assert main.main(["--task=train", "--tensorboard", *short, f"--data_dir={tmp_path / 'data'}"]) == 2
    assert capfd.readouterr().err == (
        "error: --tensorboard requires the tensorboard package: pip install -r requirements.txt\n"
    )
    assert not (tmp_path / "data").exists()


def test_evaluation_rejects_the_flag(capfd):
    assert main.main(["--task=eval", "--model_path=x", "--tensorboard"]) == 2
    assert capfd.readouterr().err == "error: --tensorboard belongs to --task=train, not to --task=eval\n"


def test_packages_are_imported_only_when_they_are_used():
    assert not TrackingConfig().tensorboard
    code = "import sys, main, milozero.tracking.tensorboard as t; t.check_installed(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"tensorboard", "argcomplete"} & set(done.stdout.split())
