"""Copy journals to MLflow and read them back; all code that uses MLflow is in this folder."""
