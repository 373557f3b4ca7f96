"""spawner.py as a process: its help, its job scripts, and hiding the W&B key."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from milozero.environments import bundles
from milozero.studies.config import CALIBERS
from tests.support import ROOT


def test_help_lists_flags_bundles_and_calibers():
    output = subprocess.run([sys.executable, ROOT / "spawner.py", "-h"], capture_output=True, text=True).stdout
    flags = """prefix config conda_env env_bundle args_method demo_dir num_workers num_trials deployment num_seeds
        caliber deploy_now sweep clear wandb_upgrade num_demos list wandb_base_url wandb_api_key wandb_entity
        wandb_project docker docker_image"""
    for flag in flags.split():
        assert re.search(rf"--{flag}\b", output), flag
    words = " ".join(output.split())
    for line in bundles.format_bundles():
        assert " ".join(line.split()) in words
    for name, caliber in CALIBERS.items():
        assert f"{name} {caliber.time_limit} {caliber.cpu_partition}, {caliber.gpu_partition}" in words


@pytest.mark.parametrize("method", ["full", "minimal", "yaml"])
def test_plan_is_shown_and_its_scripts_train(studies, method):
    task = studies.task("num_iters: 2\np_lr: [1e-4, 3e-4]\n")
    flags = ("--sweep", "--num_trials=2", "--prefix=tiny", "--num_workers=1", f"--args_method={method}")
    output = studies.run(task, *flags, "--no-deploy_now", "--clear")
    rows = [line.split() for line in output.splitlines() if line.startswith("  tiny.")]
    assert len(rows) == 4
    assert {row[4] for row in rows} == {"p_lr=0.0001", "p_lr=0.0003"}  # the drawn values
    assert "4 written" in output
    assert studies.run("--status=tiny").count("not started") == 5  # each job, and their sum
    job = studies.files("tiny") / "tiny.InvertedPendulum-v5.trial001.seed00.sh"
    environment = studies.env | {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", job], capture_output=True, text=True, env=environment, cwd="/", timeout=500)
    assert done.returncode == 0, done.stderr
    assert studies.states("tiny")["tiny.InvertedPendulum-v5.trial001.seed00"] == "finished"
    assert "3 written, 1 already finished" in studies.run(task, *flags, "--no-deploy_now")


def test_key_is_hidden_from_the_process_list_and_all_files_but_its_own(studies):
    """The process with the key in its arguments lasts only as long as Python needs to start."""
    command = [sys.executable, ROOT / "spawner.py", "--prefix=x", f"--data_dir={studies.data}", studies.task("")]
    command += ["--no-deploy_now", "--wandb_api_key", "VERYSECRET", "--wandb_entity=me"]
    with subprocess.Popen(command, env=studies.env, cwd=studies.folder, stdout=subprocess.PIPE, text=True) as process:
        command_lines = []
        while process.poll() is None:
            command_lines.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        printed = process.stdout.read()
    assert process.returncode == 0
    assert b"--wandb_api_key=-" in command_lines[len(command_lines) // 2]
    assert b"VERYSECRET" not in command_lines[len(command_lines) // 2]
    assert "VERYSECRET" not in printed
    with_key = [path for path in studies.data.rglob("*") if path.is_file() and b"VERYSECRET" in path.read_bytes()]
    assert set(with_key) == set(studies.files("x").glob("*.key"))
    assert {path.stat().st_mode & 0o777 for path in with_key} == {0o600}
    script = (studies.files("x") / "x.Hopper-v5.seed00.sh").read_text()
    assert "--wandb_project=x --wandb_entity=me" in script
