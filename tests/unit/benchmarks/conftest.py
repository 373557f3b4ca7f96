"""Training runs that are only recorded."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Replace main.py; returns a function that sets the final state of runs and returns their arguments."""
    import trainings

    commands = []

    def set_final_state(state):
        def run(*arguments, log):
            commands.append(arguments)
            name = next(a for a in arguments if a.startswith(("--uuid=", "--model_path="))).rpartition("=")[2]
            name = Path(name).name
            for folder in ("logs", "evaluations"):
                (tmp_path / folder / name / "last").mkdir(parents=True, exist_ok=True)
            (tmp_path / "logs" / name / "status.json").write_text(json.dumps({"state": state}))
            progress = "timesteps,return_mean,seconds\n" + "".join(f"{k},{k / 2},9.6\n" for k in range(1, 201))
            (tmp_path / "logs" / name / "progress.csv").write_text(progress)
            results = {"return_mean": 12.345, "return_std": 1.0}
            (tmp_path / "evaluations" / name / "last" / "results.json").write_text(json.dumps(results))

        monkeypatch.setattr(trainings, "run", run)
        return commands

    return set_final_state
