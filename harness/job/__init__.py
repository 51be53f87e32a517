"""`python -m harness.job FOLDER`: train one run folder in this process."""
