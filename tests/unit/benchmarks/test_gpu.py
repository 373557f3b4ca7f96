"""The benchmark of updates on a GPU."""

import json

import torch


def test_performance_page_shows_the_measured_gpu_times():
    import gpu

    measured = json.loads(gpu.RESULTS.read_text())
    page = (gpu.ROOT / "docs" / "performance.md").read_text()
    assert gpu.table(measured["rows"]) in page
    assert measured["machine"]["gpu"] in page


def test_gpu_benchmark_measures_the_time_per_minibatch(monkeypatch):
    import gpu

    monkeypatch.setattr(gpu, "ROLLOUT_LEN", 256)
    row = gpu.measure("mlp_8", 32, ("cpu",), compile=False)
    assert (row["stack"], row["batch_size"]) == ("mlp_8", 32)
    assert 0.0 < row["ms_per_minibatch"]["cpu"] < 1000.0


def test_gpu_benchmark_without_a_gpu_is_an_error(monkeypatch, capsys):
    import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 2
    assert capsys.readouterr().err == "error: torch sees no GPU here\n"
