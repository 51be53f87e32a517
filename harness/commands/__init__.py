"""The commands of `python -m harness`: one file is one command, with its options."""
