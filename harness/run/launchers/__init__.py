"""Launchers: start a job for each run folder of a command."""
