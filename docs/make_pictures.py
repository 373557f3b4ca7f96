"""Make the documentation's pictures from real runs: the console, a learning curve, frames of a video, a report.

    python docs/make_pictures.py [--data_dir=data/pictures] [--num_timesteps=1e6]
    python docs/make_pictures.py --only opensim console

Takes about ten minutes on two cores; existing runs are not trained again. Needs tmux and chromium. The console shows
the speed of this machine, so leave it idle meanwhile.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from milozero.studies import job_status  # noqa: E402
from milozero.studies.folder import StudyFolder  # noqa: E402

IMAGES = ROOT / "assets" / "images"
PICTURES = ("opensim", "console", "learning_curve", "frames", "report")
STUDY, SEEDS, MEMBERS = "walkers", 3, "Hopper,Walker2d"
CONSOLE = (100, 12)  # columns and rows of the terminal
CONSOLE_DELAY_S = 6.0  # training time after the first evaluation, before the console is captured
FRAMES, GAP = 6, 4  # number of frames side by side, and pixels between them
OPENSIM_STEPS, EXCITATION = 24, 0.05  # steps before a model is drawn, excitation of every muscle


def run(*words: str) -> None:
    """Run main.py or spawner.py."""
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)


def screenshot(page: Path, picture: Path, width: int, height: int) -> None:
    """Take a screenshot of the top of a page with a browser."""
    browser = shutil.which("chromium") or sys.exit("make_pictures.py needs chromium: apt install chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000"]
    command = [browser, *flags, f"--window-size={width},{height}", f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True)


def train_study(data: Path, steps: str) -> None:
    """Run the study with one job per core."""
    task = data / "task.yaml"
    task.write_text(f"num_timesteps: {steps}\n")
    flags = [f"--config={task}", f"--prefix={STUDY}", f"--env_bundle={MEMBERS}", f"--num_seeds={SEEDS}"]
    run("spawner.py", *flags, "--num_workers=1", f"--data_dir={data}")
    print(wait_for_study(data))


def wait_for_study(data: Path, poll_interval_s: float = 5.0) -> str:
    """Wait until no job of the study is active; return the number of jobs in each state."""
    folder = StudyFolder(str(data), STUDY)
    while True:
        jobs = job_status.read_job_status(folder, folder.read_metadata())
        if not {job.state for job in jobs} & {"pending", "running"}:
            return job_status.summarize(jobs)
        time.sleep(poll_interval_s)


def console(data: Path, picture: Path) -> None:
    """Capture the console of a run in a real terminal."""
    from rich.console import Console
    from rich.text import Text

    columns, rows = CONSOLE
    with tempfile.TemporaryDirectory() as folder:
        words = f"mpiexec -n 2 {sys.executable} main.py --task=train --env_id=Hopper"
        words += f" --uuid=clever_fox --data_dir={folder}"
        environment = {n: v for n, v in os.environ.items() if n != "TMUX"} | {"TMUX_TMPDIR": folder}

        def tmux(*command: str) -> str:
            done = subprocess.run(["tmux", *command], cwd=ROOT, env=environment, capture_output=True, text=True)
            return done.stdout

        tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), words)
        while not re.search(r"eval return +-?[0-9]", tmux("capture-pane", "-p")):  # after the first evaluation
            time.sleep(1)
        time.sleep(CONSOLE_DELAY_S)
        screen = tmux("capture-pane", "-e", "-p")
        tmux("kill-server")
    recorder = Console(record=True, width=columns, file=io.StringIO())
    recorder.print(Text.from_ansi(screen.rstrip()))
    page = data / "console.html"
    svg = recorder.export_svg(title="mpiexec -n 2 python main.py --task=train --env_id=Hopper")
    page.write_text(f"<style>body{{margin:0}}svg{{width:1000px;display:block}}</style>{svg}")
    screenshot(page, picture, 1000, 218)


def frames(data: Path, run_name: str, picture: Path) -> None:
    """Record an episode, unless there is a video of it, and save some of its frames side by side."""
    import imageio.v2 as imageio
    import numpy as np

    path = data / f"evaluations/{run_name}/best/episode_000.mp4"
    if not path.exists():
        run("main.py", "--task=eval", f"--model_path={data}/checkpoints/{run_name}", "--num_trajs=1", "--record",
            f"--data_dir={data}")  # fmt: skip
    video = imageio.mimread(path, memtest=False)
    chosen = [video[index] for index in np.linspace(20, min(len(video), 120) - 1, FRAMES).astype(int)]
    spaced = [np.pad(frame[::2, ::2], ((0, 0), (0, GAP), (0, 0)), constant_values=255) for frame in chosen]
    imageio.imwrite(picture, np.concatenate(spaced, axis=1)[:, :-GAP])


def opensim(picture: Path) -> None:
    """Draw each OpenSim environment with its id."""
    import numpy as np
    from matplotlib.figure import Figure

    from milozero import environments
    from milozero.environments import registry

    ids = registry.get_suite("opensim").list_env_ids()
    figure = Figure(figsize=(9.6, 11.6), layout="constrained")  # two columns: the text in the pictures is readable
    for axes, env_id in zip(figure.subplots(-(-len(ids) // 2), 2).flat, ids, strict=True):
        env = environments.make_env(env_id, "rgb_array")
        env.reset(seed=0)
        for _ in range(OPENSIM_STEPS):
            env.step(np.full(env.action_space.shape, EXCITATION, np.float32))
        axes.imshow(env.render())
        axes.set_title(env_id)
        axes.set_axis_off()
        env.close()
    figure.savefig(picture, dpi=100)


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data" / "pictures")
    parser.add_argument("--num_timesteps", default="1e6")
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=PICTURES)
    options = parser.parse_args()
    data = options.data_dir.resolve()
    data.mkdir(parents=True, exist_ok=True)
    first = f"{STUDY}.Hopper-v5.seed00"
    if "opensim" in options.only:
        opensim(IMAGES / "opensim.png")
    if "console" in options.only:
        console(data, IMAGES / "console.png")
    if {"learning_curve", "frames", "report"} & set(options.only):
        train_study(data, options.num_timesteps)
    if "learning_curve" in options.only:
        shutil.copy(data / f"logs/{first}/learning_curve.png", IMAGES / "learning_curve.png")
    if "frames" in options.only:
        frames(data, first, IMAGES / "frames.png")
    if "report" in options.only:
        run("main.py", "--task=report", f"--study={STUDY}", f"--data_dir={data}")
        screenshot(data / f"reports/{STUDY}.html", IMAGES / "report.png", 1200, 1500)


if __name__ == "__main__":
    main()
