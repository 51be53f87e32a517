"""From journals to MLflow: everything that knows MLflow is in this folder."""
