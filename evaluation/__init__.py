"""Trained agents: loaded from checkpoints, evaluated and filmed."""
