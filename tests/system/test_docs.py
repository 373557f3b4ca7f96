"""The documentation site builds without warnings, is self-contained and renders in a browser."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support import ROOT

pytestmark = pytest.mark.xdist_group("docs")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the site with warnings as errors; returns its folder and the output."""
    site = tmp_path_factory.mktemp("docs") / "site"
    program = Path(sys.executable).parent / "mkdocs"
    done = subprocess.run(
        [program, "build", "--strict", f"--site-dir={site}"], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return site, done.stdout + done.stderr


def test_site_is_built_without_a_warning(built):
    site, output = built
    assert "WARNING -" not in output
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"contributing", "changelog"}
    assert {path.parent.name for path in site.glob("*/index.html")} >= pages - {"index"}


def test_every_link_and_picture_exists(built):
    site, _ = built
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its links start at the root of the published site
            continue
        for link in re.findall(r'(?:href|src)="([^"]+)"', page.read_text()):
            path = link.partition("#")[0].partition("?")[0]
            if path and "://" not in path and not path.startswith(("mailto:", "data:")):
                target = (page.parent / path).resolve()
                assert target.exists(), f"{page.relative_to(site)}: {link}"


def test_formulas_need_no_script(built):
    page = (built[0] / "algorithms" / "index.html").read_text()
    assert page.count("<math") > 20
    assert not re.search(r"\\\(|\\\[|\$\$|merror", page)


def test_pages_load_nothing_from_other_sites(built):
    for page in built[0].rglob("*.html"):
        assert not re.search(r'<(script|link|img)[^>]+(src|href)="https?://', page.read_text()), page


def test_pages_render_completely(built, tmp_path):
    """In a real browser, formulas have a height, pictures load, and nothing is wider than the window."""
    browser = shutil.which("chromium")
    if not browser:
        pytest.skip("there is no chromium")
    probe = """<script>addEventListener("load", () => setTimeout(() => {
      const formulas = [...document.querySelectorAll("math")].map(m => m.getBoundingClientRect().height);
      const pictures = [...document.querySelectorAll("article img")].map(i => i.naturalWidth);
      document.title = JSON.stringify({formulas: formulas.length, flat: formulas.filter(h => h < 5).length,
        missing: pictures.filter(w => w === 0).length, wide: document.body.scrollWidth > innerWidth});
    }, 300))</script>"""
    for name in ("algorithms", "concepts", "parameters", "imitation"):
        page = built[0] / name / "index.html"
        page.with_name("probe.html").write_text(page.read_text().replace("</head>", probe + "</head>"))
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=4000",
            "--window-size=1300,900",
        ]
        command = [
            browser,
            *flags,
            "--dump-dom",
            f"--user-data-dir={tmp_path}",
            page.with_name("probe.html").as_uri(),
        ]
        document = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True).stdout
        title = re.search(r"<title>(.*?)</title>", document)[1]
        assert '"flat":0,"missing":0,"wide":false' in title.replace("&quot;", '"'), (name, title)


def test_flow_chart_matches_the_code(tmp_path):
    """Each name in the chart exists, the chart can be drawn, and the picture in the repository is up to date."""
    spec = importlib.util.spec_from_file_location("flow_chart", ROOT / "docs" / "flow_chart.py")
    chart = importlib.util.module_from_spec(spec)
    sys.modules["flow_chart"] = chart
    spec.loader.exec_module(chart)
    for step in chart.STEPS:
        assert callable(chart.find_in_code(step)), step
    names = {step.name for step in chart.STEPS}
    assert {name for arrow in chart.ARROWS for name in arrow} <= names
    chart.draw(tmp_path / "chart.png")
    for picture in (tmp_path / "chart.png", chart.PICTURE):
        assert Image.open(picture).text["Description"] == chart.content(), "run: python docs/flow_chart.py"
