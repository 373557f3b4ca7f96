"""docs/metrics.md documents every metric."""

import pytest
from make_reference import metrics_page

from milozero.agents import AGENTS, config_class
from milozero.agents.registry import get_metrics
from milozero.tracking.console import RUN_METRICS as SHOWN_RUN_METRICS
from milozero.tracking.console import UPDATE_METRICS
from milozero.tracking.metrics import EVALUATION_METRICS, RUN_METRICS
from tests.support import ROOT

DOCS = ROOT / "docs"


def test_documentation_is_up_to_date():
    assert (DOCS / "metrics.md").read_text() == metrics_page(), "run: python docs/make_reference.py"


def test_console_shows_only_documented_metrics():
    assert {name for name, _, _ in SHOWN_RUN_METRICS} <= set(RUN_METRICS)
    updates = {name for name, _, _ in UPDATE_METRICS}
    assert updates <= set().union(*map(get_metrics, AGENTS))
    assert all(len(updates & set(get_metrics(algo))) >= 3 for algo in AGENTS)


@pytest.mark.parametrize("algo", AGENTS)
def test_every_metric_is_documented_completely_and_once(algo):
    metrics = get_metrics(algo)
    assert not set(RUN_METRICS) & set(config_class(algo).METRICS)
    for metric in [*metrics.values(), *EVALUATION_METRICS.values()]:
        texts = (metric.group, metric.unit, metric.meaning, metric.healthy)
        assert all(texts)
        assert not any("|" in text or "\n" in text for text in (*texts, metric.source))
