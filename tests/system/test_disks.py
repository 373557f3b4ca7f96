"""Full and read-only disks. The tests mount them, which requires root."""

import contextlib
import functools
import re
import signal
import subprocess
import tempfile
import time

import pytest

from milozero.experiment import checkpoint
from tests.support.one_run import FOR_EVER, QUICK, iterations, status, wait_for


@functools.cache
def can_mount():
    """Return whether tests can mount disks."""
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode == 0
        if made:
            subprocess.run(["umount", folder], check=True)
    return made


@contextlib.contextmanager
def disk(folder, options):
    """Mount a disk on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(not can_mount(), reason="mounts a disk, which requires root")
def test_full_disk_is_reported_and_the_next_save_succeeds(started, tmp_path):
    data = tmp_path / "data"
    with disk(data, "size=3m"):
        process = started("--task=train", *QUICK, "--uuid=run", "--save_frequency=5", FOR_EVER)
        wait_for(lambda: len(iterations(tmp_path)) >= 5)
        fill(data / "filler")
        full_at = len(iterations(tmp_path))
        wait_for(lambda: "not written" in (data / "logs/run/log.txt").read_text() or process.poll() is not None)
        time.sleep(1)
        assert process.poll() is None
        (data / "filler").unlink()
        wait_for(lambda: (status(tmp_path)["saved_iteration"] or 0) > full_at + 5)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=500)
        assert process.returncode == 0, stderr
        assert "No space left on device" in stderr
        assert "training continues, and the next save retries" in stderr
        assert "Traceback" not in stderr
        assert iterations(tmp_path) == list(range(1, iterations(tmp_path)[-1] + 1))
        checkpoint.load(data / "checkpoints/run/last.pt")


@pytest.mark.skipif(not can_mount(), reason="mounts a disk, which requires root")
def test_full_disk_for_stdout_and_stderr_does_not_end_the_run(started, tmp_path):
    data = tmp_path / "data"
    with disk(data, "size=3m"):
        with (data / "out.txt").open("w") as out, (data / "err.txt").open("w") as err:
            quick = ("--task=train", *QUICK, "--uuid=run", "--save_frequency=5", "--eval_frequency=0", FOR_EVER)
            process = started(*quick, stdout=out, stderr=err)
        wait_for(lambda: len(iterations(tmp_path)) >= 5)
        fill(data / "filler")
        time.sleep(4)
        assert process.poll() is None
        (data / "filler").unlink()
        reached = len(iterations(tmp_path))
        wait_for(lambda: (status(tmp_path)["saved_iteration"] or 0) > reached)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.returncode == 0
        assert iterations(tmp_path) == list(range(1, iterations(tmp_path)[-1] + 1))


def fill(path):
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


@pytest.mark.skipif(not can_mount(), reason="mounts a disk, which requires root")
def test_read_only_folder_at_the_end_gives_exit_code_1(started, tmp_path):
    data = tmp_path / "data"
    process = started("--task=train", *QUICK, "--uuid=run", "--save_frequency=5", FOR_EVER)
    wait_for(lambda: len(iterations(tmp_path)) >= 6)
    with disk(data / "checkpoints/run", "ro"):
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=500)
        assert process.returncode == 1
        assert re.search(r"error: the last checkpoint of iteration \d+ not written: Read-only file system", stderr)
        assert "Traceback" not in stderr
        assert status(tmp_path)["state"] == "failed"
    assert checkpoint.list_checkpoints(data / "checkpoints/run")[-1] == "last"
