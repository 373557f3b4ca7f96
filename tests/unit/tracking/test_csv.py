import pytest

from milozero.tracking.csv import CSVTracker
from tests.support.fakes import FullDisk


def score_rows(path):
    return path.read_text().splitlines()


def write(path, iterations, start=0):
    tracker = CSVTracker(path, start)
    for k in iterations:
        tracker.log({"iteration": k, "return": k / 2, "eval": float("nan")}, k)
    tracker.close()


def test_resumed_file_has_each_iteration_once(tmp_path):
    path = tmp_path / "progress.csv"
    write(path, range(1, 8))
    whole = score_rows(path)
    write(path, range(6, 8), start=5)
    assert score_rows(path) == whole == ["iteration,return,eval", *(f"{k},{k / 2}," for k in range(1, 8))]


@pytest.mark.parametrize("torn", [b"4,2", b"4,2.0", b"\0\0\0\0", b"4,2.0,\n\0\0", b"x,y,z\n"])
def test_half_a_row_is_removed(tmp_path, torn):
    path = tmp_path / "progress.csv"
    write(path, range(1, 4))
    with path.open("ab") as file:
        file.write(torn)
    write(path, [4], start=3)
    assert [row.split(",")[0] for row in score_rows(path)] == ["iteration", "1", "2", "3", "4"]


@pytest.mark.parametrize("content", [b"", b"\n", b"nonsense\n1,2\n"])
def test_file_that_is_none_is_begun_anew(tmp_path, content):
    path = tmp_path / "progress.csv"
    path.write_bytes(content)
    write(path, [6], start=5)
    assert score_rows(path) == ["iteration,return,eval", "6,3.0,"]


def test_new_run_empties_what_one_left_that_had_no_checkpoint(tmp_path):
    path = tmp_path / "progress.csv"
    write(path, range(1, 4))
    write(path, [1])
    assert score_rows(path) == ["iteration,return,eval", "1,0.5,"]


def test_resumed_file_keeps_its_columns(tmp_path):
    path = tmp_path / "progress.csv"
    write(path, [1])
    tracker = CSVTracker(path, 1)
    tracker.log({"new": 1.0, "iteration": 2, "return": 1.0}, 2)
    tracker.close()
    assert score_rows(path) == ["iteration,return,eval", "1,0.5,", "2,1.0,"]


def test_rows_that_a_full_disk_does_not_take_are_written_once_it_does(tmp_path, caplog):
    path = tmp_path / "progress.csv"
    tracker = CSVTracker(path)
    disk = FullDisk.under(tracker._file)
    tracker.log({"iteration": 1}, 1)
    disk.room = 1
    for k in (2, 3, 4):
        tracker.log({"iteration": k}, k)
    with pytest.raises(OSError, match="No space"):
        tracker.flush()
    assert score_rows(path) == ["iteration", "1", "2"]
    assert len(caplog.records) == 1
    disk.room = 10**6
    tracker.log({"iteration": 5}, 5)
    tracker.close()
    assert score_rows(path) == ["iteration", "1", "2", "3", "4", "5"]
