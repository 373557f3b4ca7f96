"""Studies: a task file over environments, seeds and hyper-parameters becomes jobs."""
