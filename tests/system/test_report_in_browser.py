"""Reports in a real browser."""

import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys

import imageio.v2
import numpy as np
import pytest

from milozero import main
from milozero.reports.curve_figures import MAX_MARKERS
from tests.support import ROOT
from tests.support import runs as logs

pytestmark = pytest.mark.xdist_group("browser")
METHODS = ("ppo p_lr=1e-5", "ppo p_lr=0.001", "ppo p_lr=0.01")
SECTIONS = ("evaluation", "training", "scores", "aggregate", "sweep", "time", "unfinished", "videos", "definitions")


class Browser:
    """A headless browser with its own profile."""

    def __init__(self, program, folder):
        self._folder = folder
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
        self._command = [program, *flags, "--virtual-time-budget=3000", f"--user-data-dir={folder / 'browser'}"]

    def _run(self, page, *flags):
        command = ["nice", *self._command, *flags, f"file://{page}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "18 runs: 17 finished, 1 failed" in done.stdout
    assert f"report: {data}/reports/w.html" in done.stdout
    assert main.main([*command[2:], "--format=csv"]) == 0
    return data / "reports" / "w.html"


def title(document):
    """Return the JSON that a script has written to the title of a document."""
    return json.loads(html.unescape(re.search("<title>(.*?)</title>", document, re.S)[1]))


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


LAYOUT = """
  const widths = [360, 768, 1280], found = {}, list = (root, selector) => [...root.querySelectorAll(selector)];
  function measure(width) {
    const frame = document.createElement("iframe");
    frame.style = `width: ${width}px; border: 0`;
    const copy = document.documentElement.cloneNode(true);
    copy.querySelectorAll("script, iframe").forEach((each) => each.remove());
    frame.srcdoc = "<!DOCTYPE html>" + copy.outerHTML;
    frame.onload = () => {
      const page = frame.contentDocument, right = (each) => each.getBoundingClientRect().right;
      const texts = list(page, "header *, main *").filter((each) => !each.closest(".scroll, pre, svg"));
      const cut = (svg) => list(svg, "text").filter((text) => right(text) > right(svg) + 1);
      const hidden = (table) => {
        const heads = list(table, "th").filter((head) => head.offsetWidth);
        return right(heads[1]) > right(table.closest(".scroll"));
      };
      found[width] = {
        page: page.documentElement.scrollWidth,
        wide: texts.filter((each) => right(each) > width + 1).map((each) => each.outerHTML.slice(0, 80)),
        cut: list(page, "figure svg").filter((svg) => svg.clientWidth).flatMap(cut).map((text) => text.textContent),
        hidden: list(page, "table").filter(hidden).map((table) => table.caption.textContent),
      };
      frame.remove();
      widths.length ? measure(widths.shift()) : document.title = JSON.stringify(found);
    };
    document.body.append(frame);
  }
  measure(widths.shift());"""


def test_nothing_overflows_on_a_phone_a_tablet_and_a_desktop(browser, page):
    """Wide tables scroll in their frames; their first two columns, the name and the score, are in sight."""
    found = title(browser.after(page, LAYOUT)[0])
    ok = {"wide": [], "cut": [], "hidden": []}
    assert found == {str(width): {"page": width, **ok} for width in (360, 768, 1280)}


PICK = """
  const list = (root, selector) => [...root.querySelectorAll(selector)];
  const shown = () => list(document, "#evaluation .plot").filter((plot) => plot.clientWidth);
  const state = () => ({
    axes: [...new Set(shown().map((plot) => plot.dataset.axis))],
    pressed: document.querySelector("#evaluation .axes [aria-pressed=true]").textContent,
    label: list(shown()[0], "text").map((text) => text.textContent).find((text) => /steps|time|iter/.test(text)),
    legend: document.querySelector("#evaluation .legend").clientWidth > 0,
    clear: [...new Set(list(shown()[0], "[data-method]")
      .filter((part) => getComputedStyle(part).opacity === "1").map((part) => part.dataset.method))].sort(),
  });
  // the data coordinates of the markers, by the tick marks and their labels
  function markers(plot) {
    const number = (text) => Number(text.textContent.replaceAll(",", "").replace("−", "-"));
    const at = (each, name) => Number(each.getAttribute(name));
    const uses = list(plot, "use"), ticks = uses.filter((use) => !use.closest("[data-method]"));
    const texts = list(plot, "text").filter((text) => Number.isFinite(number(text)));
    const bottom = Math.max(...ticks.map((tick) => at(tick, "y")));
    const left = Math.min(...ticks.map((tick) => at(tick, "x")));
    const scale = (name, ticks, anchor) => {
      const positions = ticks.map((tick) => at(tick, name)).sort((a, b) => a - b);
      const values = texts.filter((text) => text.style.textAnchor === anchor).map(number).sort((a, b) => a - b);
      if (name === "y") values.reverse();
      const last = positions.length - 1, slope = (values[last] - values[0]) / (positions[last] - positions[0]);
      return (each) => values[0] + slope * (at(each, name) - positions[0]);
    };
    const x = scale("x", ticks.filter((tick) => at(tick, "y") === bottom), "middle");
    const y = scale("y", ticks.filter((tick) => at(tick, "x") === left), "end");
    const own = uses.filter((use) => use.closest("[data-method]") && at(use, "x") > 0);  // bands are at 0
    return own.map((use) => [Number(use.closest("[data-method]").dataset.method), x(use), y(use)]);
  }
  document.head.insertAdjacentHTML("beforeend", "<style>* { transition: none !important; }</style>");
  const click = (selector) => document.querySelector(selector).dispatchEvent(new Event("click", {bubbles: true}));
  const found = {markers: markers(shown()[0]), start: state()};
  click("#training .axes [data-axis=seconds]");
  found.time = state();
  click("#evaluation .axes [data-axis=iteration]");
  click("#evaluation .legend [data-method='1']");
  found.one = state();
  click("#training .plot[data-axis=iteration] [data-method='2'] path");
  found.two = state();
  click("#evaluation .legend [data-method='1']");
  click("#evaluation .legend [data-method='2']");
  found.end = state();
  click("#evaluation .axes [data-axis=timesteps]");
  const labels = list(shown()[0], "[data-method]").filter((part) => part.tabIndex === 0);
  const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  found.labels = labels.map((label) => {
    label.focus();
    const focused = document.activeElement === label && getComputedStyle(label).outlineStyle;
    const {role, ariaLabel, ariaPressed} = label, clear = [];
    for (const key of ["Enter", "x", " "]) {
      press(key);
      clear.push(state().clear.join());
    }
    return [label.dataset.method, focused, role, ariaLabel, ariaPressed, label.closest("svg").role, ...clear];
  });
  press("Enter");
  found.pressed = labels.map((label) => label.ariaPressed);
  document.title = JSON.stringify(found);"""


def test_axis_is_switched_curves_are_picked_and_markers_are_measurements(browser, page):
    document, console = browser.after(page, PICK)
    assert console == []
    found = title(document)
    every = ["0", "1", "2"]
    start = {"axes": ["timesteps"], "pressed": "environment steps", "label": "environment steps", "legend": False}
    assert found["start"] == start | {"clear": every}
    assert (found["time"]["axes"], found["time"]["label"]) == (["seconds"], "wall-clock time (s)")
    assert (found["one"]["axes"], found["one"]["label"]) == (["iteration"], "iterations")
    assert found["one"]["pressed"] == "iterations"
    assert [found[name]["clear"] for name in ("one", "two", "end")] == [["1"], ["1", "2"], every]
    names = zip(every, METHODS, strict=True)
    assert found["labels"] == [[i, "solid", "button", name, "false", "group", i, i, "0,1,2"] for i, name in names]
    assert found["pressed"] == ["false", "false", "true"]
    measured = means_of_measurements(page)
    assert len(found["markers"]) == 3 * MAX_MARKERS
    for method, x, y in found["markers"]:
        nearest = min(measured, key=lambda step: abs(step - x))
        assert (x, y) == (pytest.approx(nearest, abs=40), pytest.approx(measured[nearest][method], abs=5))
    assert {min(measured), max(measured)} == {2000, 40_000}


def means_of_measurements(page):
    """Return step → mean evaluation return on Ant of each method, from the CSV of measurements."""
    values = {}
    for row in csv.DictReader(page.with_name("w.measurements.csv").open(newline="")):
        if (row["env_id"], row["metric"]) == ("Ant-v5", "eval_return"):
            values.setdefault((float(row["timesteps"]), row["method"]), []).append(float(row["value"]))
    means = {}
    for (step, _), returns in values.items():
        means.setdefault(step, []).append(np.mean(returns))
    return means


def test_click_on_a_column_head_sorts_the_table(browser, page):
    click = 'document.querySelector("#scores th:nth-child(3) button").click();'
    for clicks, order in ((1, -1), (2, 1)):
        document, console = browser.after(page, click * clicks)
        body = re.search('<section id="scores">.*?<tbody>(.*?)</tbody>', document, re.S)[1]
        values = [float(re.findall('data-value="(.*?)"', row)[0]) for row in body.split("</tr>")[:-1]]
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
