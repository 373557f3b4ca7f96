"""The headings of the table of environments."""

from types import SimpleNamespace

from milozero.environments import listing, registry


def test_heading_names_versions_and_missing_packages(monkeypatch):
    suite = SimpleNamespace(__doc__="Robots.\n\nMore.", PACKAGES=("numpy", "robots"), INSTALL="pip install robots")
    monkeypatch.setattr(registry, "get_suite", lambda name: suite)
    monkeypatch.setattr(registry, "find_versions", lambda *names: {"numpy": "2.0"})
    assert listing.format_heading("box") == "box: Robots (numpy 2.0; not installed: robots (pip install robots))"
    suite.PACKAGES = ("numpy",)
    assert listing.format_heading("box") == "box: Robots (numpy 2.0)"


def test_headings_have_no_markup():
    assert not any("`" in listing.format_heading(name) for name in registry.SUITES)
