"""Reports in a real browser."""

import os
import re
import shutil
import subprocess
import sys

import imageio.v2
import numpy as np
import pytest

from tests.support import ROOT
from tests.support import runs as logs

pytestmark = pytest.mark.xdist_group("browser")
SECTIONS = ("evaluation", "training", "scores", "aggregate", "sweep", "time", "unfinished", "videos", "definitions")


class Browser:
    """A headless browser with its own profile."""

    def __init__(self, program, folder):
        self._folder = folder
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
        self._command = [program, *flags, "--virtual-time-budget=3000", f"--user-data-dir={folder / 'browser'}"]

    def _run(self, page, *flags):
        command = ["nice", *self._command, *flags, f"file://{page}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    def picture(self, page, width=1280, height=2400, dark=False):
        """Return the page's pixels (height, width, 3) and its console messages."""
        path = self._folder / "picture.png"
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        _, console = self._run(page, f"--screenshot={path}", f"--window-size={width},{height}", scheme)
        return imageio.v2.imread(path)[..., :3], console

    def after(self, page, script=""):
        """Return the page's document after running a script, without the policy that would block it."""
        copy, text = self._folder / "copy.html", page.read_text()
        if script:
            text = re.sub("<meta http-equiv[^>]*>", "", text) + f"<script>{script}</script>"
        copy.write_text(text)
        return self._run(copy, "--dump-dom")


@pytest.fixture
def browser(tmp_path):
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.skip("there is no chromium (tests/system_packages.sh installs it)")
    return Browser(program, tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of `write_study`; tests must not change it."""
    data = tmp_path_factory.mktemp("data")
    logs.write_study(data)
    command = [sys.executable, str(ROOT / "main.py"), "--task=report", "--study=w", f"--data_dir={data}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "18 runs: 17 finished, 1 failed" in done.stdout
    assert f"report: {data}/reports/w.html" in done.stdout
    return data / "reports" / "w.html"


def colors(picture):
    return len(np.unique(picture.reshape(-1, 3), axis=0))


def test_page_renders_completely_without_console_messages(browser, page):
    picture, console = browser.picture(page)
    assert console == []
    assert picture.shape == (2400, 1280, 3)
    assert colors(picture) > 500
    rows = picture.reshape(24, -1, 3).std(axis=1).max(axis=1)
    assert (rows > 3).all()  # no part of the page is blank
    document, console = browser.after(page)
    assert console == []
    assert all(f'<section id="{section}"' in document for section in SECTIONS)
    assert "a loss is NaN, with &lt;evidence&gt;" in document


def test_page_follows_the_preferred_color_scheme(browser, page):
    light, _ = browser.picture(page)
    dark, _ = browser.picture(page, dark=True)
    assert np.median(light) > 240
    assert np.median(dark) < 40
    assert dark.max() > 220  # the text is light
    assert colors(dark) > 500


def test_page_fits_a_phone(browser, page):
    script = """
      const frame = document.createElement("iframe");
      frame.style = "width: 375px; border: 0";
      const copy = document.documentElement.cloneNode(true);
      copy.querySelectorAll("script").forEach((each) => each.remove());
      frame.srcdoc = "<!DOCTYPE html>" + copy.outerHTML;
      frame.onload = () => document.title = `wide ${frame.contentDocument.documentElement.scrollWidth}`;
      document.body.append(frame);"""
    document, _ = browser.after(page, script)
    assert re.findall("<title>(.*?)</title>", document)[0] == "wide 375"


def test_click_on_a_column_head_sorts_the_table(browser, page):
    click = 'document.querySelector("#scores th:nth-child(4) button").click();'
    for clicks, order in ((1, -1), (2, 1)):
        document, console = browser.after(page, click * clicks)
        body = re.search('<section id="scores">.*?<tbody>(.*?)</tbody>', document, re.S)[1]
        values = [float(re.findall('data-value="(.*?)"', row)[1]) for row in body.split("</tr>")[:-1]]
        assert len(values) == 6
        assert values == sorted(values, reverse=order < 0)
        assert console == []


def test_console_messages_are_noticed(browser, page, tmp_path):
    """The checks above can fail: a script error, and a request that the page's policy blocks."""
    assert "no such thing" in str(browser.after(page, "throw Error('no such thing')")[1])
    outside = tmp_path / "outside.html"
    outside.write_text(page.read_text().replace("<main>", "<main><img src='http://localhost:9/x.png'>"))
    assert "Content Security Policy" in str(browser.picture(outside)[1])
    outside.write_text(page.read_text().replace("<main>", "<main><script>document.title = 'in'</script>"))
    assert "Content Security Policy" in str(browser.picture(outside)[1])


def test_report_of_real_runs(milozero, started, browser, tmp_path):
    """Two seeds, one of them recorded, and a run that was killed."""
    length = ("--num_envs=2", "--rollout_len=64", "--batch_size=32", "--eval_episodes=1", "--no-compile")
    train = ("--task=train", "--env_id=CartPole", *length, "--eval_frequency=2")
    for seed in (0, 1):
        done = milozero(*train, f"--seed={seed}", f"--uuid=real.seed{seed:02}", "--num_iters=6")
        assert done.returncode == 0, done.stderr
    done = milozero("--task=eval", "--model_path=data/checkpoints/real.seed00", "--num_trajs=1", "--record")
    assert done.returncode == 0, done.stderr
    process = started(*train, "--uuid=real.seed02", "--seed=2")
    next(line for line in process.stdout if line.startswith("iteration"))
    process.kill()
    process.wait()
    done = milozero("--task=report", "--study=real")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 runs: 2 finished, 1 failed" in done.stdout
    page = tmp_path / "data/reports/real.html"
    picture, console = browser.picture(page)
    assert console == []
    assert colors(picture) > 300
    watch = 'document.querySelector("video").onloadeddata = (e) => document.title = `video ${e.target.videoWidth}`;'
    document, _ = browser.after(page, watch)
    assert re.search("<title>video [1-9][0-9]+</title>", document)
    assert "it was killed" in document
    assert "CartPole-v1" in document
    assert os.listdir(page.parent) == ["real.html"]
