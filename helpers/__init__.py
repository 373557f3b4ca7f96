"""Shared building blocks: settings, workers, files, logging."""
