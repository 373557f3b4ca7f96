import os

import pytest

from milozero.helpers import files


@pytest.mark.parametrize("target", ["precious", "missing"])
def test_file_is_not_written_through_a_link(tmp_path, target):
    (tmp_path / "precious").write_text("data")
    (tmp_path / f".new.{os.getpid()}").symlink_to(target)
    files.write_bytes(tmp_path / "new", b"content")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"precious": "data", "new": "content"}
    assert not (tmp_path / "new").is_symlink()


def test_secret_does_not_inherit_the_mode_of_a_leftover(tmp_path):
    leftover = tmp_path / f".key.{os.getpid()}"
    leftover.write_text("")
    leftover.chmod(0o644)

    def create(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))

    files.write_atomically(tmp_path / "key", create)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("mode", "private"), [(0o700, True), (0o755, True), (0o770, False), (0o777, False)])
def test_folder_is_private_if_only_its_owner_can_write_to_it(tmp_path, mode, private):
    tmp_path.chmod(mode)
    assert files.is_private(tmp_path) == private
    (tmp_path / "link").symlink_to(".")
    assert not files.is_private(tmp_path / "link")


@pytest.mark.parametrize(("make", "error"), [(os.mkfifo, "not a regular file"), (os.mkdir, "Is a directory")])
def test_only_regular_files_are_read(tmp_path, make, error):
    """Opening a named pipe without a writer would block forever."""
    make(tmp_path / "x")
    for read in (files.read_regular, files.read_json):
        with pytest.raises(OSError, match=error):
            read(tmp_path / "x")
    (tmp_path / "file").write_bytes(b"[1]")
    assert files.read_regular(tmp_path / "file") == b"[1]"
    assert files.read_json(tmp_path / "file") == [1]
