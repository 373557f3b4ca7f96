"""Settings: declared once, read from the command line and from task files."""
