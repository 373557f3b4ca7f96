"""Writing, resuming and reading progress.csv."""

import math
import shutil

import numpy as np
import pytest

from milozero.tracking.csv import CSVTracker, parse_progress, read_last_values, read_progress
from tests.support.fakes import FullDisk


def read_lines(path):
    return path.read_text().splitlines()


def write(path, iterations, start=0):
    tracker = CSVTracker(path, start)
    for k in iterations:
        tracker.log({"iteration": k, "return": k / 2, "eval": float("nan")}, k)
    tracker.close()


def test_resumed_file_has_each_iteration_once(tmp_path):
    path = tmp_path / "progress.csv"
    write(path, range(1, 8))
    uninterrupted = read_lines(path)
    write(path, range(6, 8), start=5)
    assert read_lines(path) == uninterrupted == ["iteration,return,eval", *(f"{k},{k / 2}," for k in range(1, 8))]


@pytest.mark.parametrize("torn", [b"4,2", b"4,2.0", b"\0\0\0\0", b"4,2.0,\n\0\0", b"x,y,z\n"])
def test_damaged_rows_are_removed_on_resume(tmp_path, torn):
    path = tmp_path / "progress.csv"
    write(path, range(1, 4))
    with path.open("ab") as file:
        file.write(torn)
    write(path, [4], start=3)
    assert [row.split(",")[0] for row in read_lines(path)] == ["iteration", "1", "2", "3", "4"]


@pytest.mark.parametrize("content", [b"", b"\n", b"nonsense\n1,2\n"])
def test_invalid_file_is_replaced(tmp_path, content):
    path = tmp_path / "progress.csv"
    path.write_bytes(content)
    write(path, [6], start=5)
    assert read_lines(path) == ["iteration,return,eval", "6,3.0,"]


def test_new_run_removes_the_rows_of_a_run_without_checkpoint(tmp_path):
    path = tmp_path / "progress.csv"
    write(path, range(1, 4))
    write(path, [1])
    assert read_lines(path) == ["iteration,return,eval", "1,0.5,"]


def test_resumed_file_keeps_its_columns(tmp_path):
    path = tmp_path / "progress.csv"
    write(path, [1])
    tracker = CSVTracker(path, 1)
    tracker.log({"new": 1.0, "iteration": 2, "return": 1.0}, 2)
    tracker.close()
    assert read_lines(path) == ["iteration,return,eval", "1,0.5,", "2,1.0,"]


def test_rows_that_a_full_disk_rejects_are_written_later(tmp_path, caplog):
    path = tmp_path / "progress.csv"
    tracker = CSVTracker(path)
    disk = FullDisk.under(tracker._file)
    tracker.log({"iteration": 1}, 1)
    disk.room = 1
    for k in (2, 3, 4):
        tracker.log({"iteration": k}, k)
    with pytest.raises(OSError, match="No space"):
        tracker.flush()
    assert read_lines(path) == ["iteration", "1", "2"]
    assert len(caplog.records) == 1
    disk.room = 10**6
    tracker.log({"iteration": 5}, 5)
    tracker.close()
    assert read_lines(path) == ["iteration", "1", "2", "3", "4", "5"]


def test_reader_ignores_an_unfinished_last_row():
    columns, num_damaged = parse_progress("iteration,timesteps,return_mean\n1,1000,5.5\n2,2000,61")
    assert columns["return_mean"].tolist() == [5.5]
    assert num_damaged == 0


@pytest.mark.parametrize("removed", ["file", "folder", "content"])
def test_rows_are_kept_if_the_file_is_removed_during_a_run(tmp_path, removed):
    path = tmp_path / "logs/progress.csv"
    path.parent.mkdir()
    tracker = CSVTracker(path)
    for iteration in (1, 2):
        tracker.log({"iteration": iteration}, 0)
    if removed == "file":
        path.unlink()
    elif removed == "folder":
        shutil.rmtree(path.parent)
    else:
        path.write_bytes(b"")
    tracker.log({"iteration": 3}, 0)
    assert read_progress(path)["iteration"].tolist() == ([3] if removed == "content" else [1, 2, 3])
    path.unlink()
    tracker.close()
    assert read_progress(path)["iteration"].tolist()[-1] == 3


def test_rows_that_an_editor_has_saved_as_a_new_file_appear_once(tmp_path):
    path = tmp_path / "progress.csv"
    tracker = CSVTracker(path)
    tracker.log({"iteration": 1}, 0)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    tracker.log({"iteration": 2}, 0)
    assert read_progress(path)["iteration"].tolist() == [1, 2]


def test_resuming_reports_missing_rows(tmp_path, caplog):
    path = tmp_path / "progress.csv"
    CSVTracker(path, 1_200)
    assert f"{path} lacks 1,200 rows of the 1,200 iterations so far" in caplog.text
    caplog.clear()
    path.write_bytes(b"iteration,return\r\n1,5\r\n2,5\r\n3,5\r\n")
    CSVTracker(path, 2)
    assert caplog.text == ""


@pytest.mark.parametrize("names", [None, ("timesteps", "return_mean", "eval_return", "missing")])
def test_reader_counts_damaged_rows_and_turns_invalid_cells_into_nan(names):
    text = "iteration,timesteps,return_mean,eval_return\n1,1000,,\n2,20\n\x00\n3,3000,x,4\n4,4000,5,nan\n"
    columns, num_damaged = parse_progress(text, names)
    assert set(columns) == {"iteration", "timesteps", "return_mean", "eval_return"} & set(names or columns)
    np.testing.assert_equal(columns["timesteps"], [1000, 3000, 4000])
    np.testing.assert_equal(columns["return_mean"], [math.nan, math.nan, 5])
    np.testing.assert_equal(columns["eval_return"], [math.nan, 4, math.nan])
    assert num_damaged == 2


@pytest.mark.parametrize("text", ["", "iteration", "iteration,timesteps\n", "\n\n", "a\n\n"])
def test_reader_of_a_file_without_rows_returns_no_values(text):
    columns, _ = parse_progress(text)
    assert not any(np.isfinite(values).any() for values in columns.values())


def test_reader_returns_what_the_writer_wrote(tmp_path):
    path = tmp_path / "progress.csv"
    write(path, range(1, 4))
    columns = read_progress(path)
    np.testing.assert_equal(columns["iteration"], [1, 2, 3])
    np.testing.assert_equal(columns["return"], [0.5, 1, 1.5])
    np.testing.assert_equal(columns["eval"], [math.nan] * 3)
    assert read_last_values(path) == {"iteration": 3, "return": 1.5}


def test_last_values_are_read_from_the_end_of_a_long_file(tmp_path):
    path = tmp_path / "progress.csv"
    path.write_text("iteration,loss\n" + "".join(f"{i},{i / 2}\n" for i in range(20_000)) + "20000")
    assert read_last_values(path) == {"iteration": 19_999, "loss": 19_999 / 2}
    assert read_last_values(tmp_path / "missing.csv") == {}
