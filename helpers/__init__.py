"""What everything else stands on: settings, workers, files, logging."""
