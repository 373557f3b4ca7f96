import pytest

from agents import AGENTS, agent_class
from helpers.metrics import EVALUATION_METRICS, RUN_METRICS, document, metrics_of
from helpers.trackers.console import SHOWN
from tests.support import ROOT

DOCS = ROOT / "docs"


def test_documentation_is_what_the_code_declares():
    told = "run: python -m helpers.metrics > docs/metrics.md"
    assert (DOCS / "metrics.md").read_text() == document(), told


def test_console_shows_only_documented_metrics():
    assert {name for name, _, _ in SHOWN} <= set(metrics_of("ppo"))


@pytest.mark.parametrize("algo", AGENTS)
def test_every_metric_is_told_whole_and_by_one_owner(algo):
    metrics = metrics_of(algo)
    assert not set(RUN_METRICS) & set(agent_class(algo).METRICS)
    for metric in [*metrics.values(), *EVALUATION_METRICS.values()]:
        texts = (metric.group, metric.unit, metric.meaning, metric.healthy)
        assert all(texts)
        assert not any("|" in text or "\n" in text for text in (*texts, metric.source))
