"""Reports of finished and running experiments: scores, statistics, figures, one HTML page."""
