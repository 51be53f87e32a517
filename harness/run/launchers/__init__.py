"""How the run folders of a command get their jobs."""
