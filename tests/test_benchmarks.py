import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))


def test_scaling_model_gives_back_the_network_it_was_fitted_to():
    from scaling import SIZES, fit

    latency, bandwidth = 5e-6, 2e9
    medians = [2 * (latency + size * 4 / bandwidth) for size in SIZES]
    assert fit(medians) == pytest.approx((latency, bandwidth), rel=0.01)


def test_prediction_is_ideal_without_communication_and_falls_with_latency():
    from scaling import predict

    assert predict(8, 10_000, 0.0, 0.0, float("inf")) == pytest.approx(80_000)
    slow = [predict(n, 10_000, 0.0, 1e-4, 1e9) / n for n in (2, 16, 128)]
    assert slow == sorted(slow, reverse=True)


def test_ratios_are_taken_within_a_repeat():
    from throughput import ratios

    found = {
        "MiloZero, 1 worker": [40.0, 20.0, 40.0],
        "MiloZero, 2 workers": [80.0, 40.0, 60.0],
        "SB3, 8 envs": [10.0, 5.0, 10.0],
        "SB3, 1 env": [5.0, 4.0, 20.0],
        "mj_step alone": [80.0, 40.0, 80.0],
        "CleanRL's style, 8 envs": [8.0, 4.0, 8.0],
        "MiloZero's rollouts": [60.0, 30.0, 60.0],
        "EnvPool alone, 16 envs": [60.0, 30.0, 60.0],
    }
    result = ratios(found)
    assert result["1 worker / SB3's better"] == 4.0
    assert result["2 workers / 1 worker"] == 2.0


def test_verdict_knows_what_is_better():
    from throughput import verdict

    assert "reached" in verdict("2 workers / 1 worker", "Hopper-v5", 1.9)
    assert "MISSED" in verdict("2 workers / 1 worker", "Hopper-v5", 1.7)
    assert "reached" in verdict("main.py -h, s", "Hopper-v5", 0.3)
    assert "MISSED" in verdict("main.py -h, s", "Hopper-v5", 1.3)
    assert verdict("main.py -h, s", "Ant-v5", 1.3) == "1.30"


def test_stopwatch_counts_no_second_twice():
    import time

    from profile_iteration import Stopwatch

    class Work:
        def inner(self):
            time.sleep(0.05)

        def outer(self):
            time.sleep(0.05)
            self.inner()

    watch, work = Stopwatch(), Work()
    watch.around(work, "inner", "in")
    watch.around(work, "outer", "out")
    work.outer()
    assert watch.seconds["in"] == pytest.approx(0.05, abs=0.02)
    assert watch.seconds["out"] == pytest.approx(0.05, abs=0.02)
