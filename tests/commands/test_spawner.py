import subprocess
import sys
from pathlib import Path

from environments import bundles

ROOT = Path(__file__).parent.parent.parent


def spawn(*args):
    command = [sys.executable, str(ROOT / "spawner.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_help_lists_the_bundles():
    shown = " ".join(spawn("-h").stdout.split())
    for line in bundles.lines():
        assert " ".join(line.split()) in shown


def test_job_that_it_writes_trains(tmp_path):
    task = tmp_path / "task.yaml"
    task.write_text("num_iters: 2\nnum_envs: 2\nrollout_len: 64\nbatch_size: 32\neval_episodes: 1\ncompile: false\n")
    result = spawn(f"--config={task}", "--prefix=tiny", f"--data_dir={tmp_path / 'data'}", "--num_workers=1")
    assert result.returncode == 0, result.stderr
    assert "study tiny: 2 jobs of 1 workers, not started" in result.stdout
    job = tmp_path / "data/spawn/tiny/tiny.InvertedPendulum-v5.seed00.sh"
    bin_first = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    root_may = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(["bash", job], capture_output=True, text=True, env=bin_first | root_may, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/checkpoints/tiny.InvertedPendulum-v5.seed00/last.pt").exists()


def test_wrong_study_is_one_line_and_writes_nothing(tmp_path):
    result = spawn("--env_bundle=mujoko", f"--data_dir={tmp_path / 'data'}")
    assert result.returncode == 2
    assert "env_bundle=mujoko: must be one of debug, classic" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()
