"""Reports on finished and running experiments: scores, statistics and plots on one HTML page."""
