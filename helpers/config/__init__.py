"""Settings, declared once and read from the command line and from task files."""
