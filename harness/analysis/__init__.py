"""Compare finished runs, and draw plots and reports."""
