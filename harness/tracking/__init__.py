"""From journals to MLflow: everything that knows MLflow is in this folder."""

import os

from harness.tracking import environment

environment.set_up(os.environ)
