"""Set the environment variables of all our processes that use MLflow.

MLflow's variables can make its calls asynchronous, send results elsewhere, or truncate what is
stored. Our commands keep only those needed to reach a store, and remove all other `MLFLOW_*`
variables before they import MLflow. Child processes inherit the result. Importing the harness, as a
notebook does, changes nothing.
"""

import re
from collections.abc import Iterator, Mapping, MutableMapping

# Address and credentials of a tracking server, and how to reach its artifacts.
KEPT = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_WORKSPACE",
    "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_DISABLE_TELEMETRY",
    # Who can open `python -m harness ui`, for example behind a proxy.
    "MLFLOW_SERVER_ALLOWED_HOSTS",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
    "MLFLOW_SERVER_X_FRAME_OPTIONS",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
)
KEPT_PREFIXES = ("MLFLOW_S3_", "MLFLOW_GCS_", "MLFLOW_MYSQL_SSL_", "MLFLOW_KERBEROS_")
# MLflow would retry a dead server for minutes. A page of a thousand runs takes a server longer than
# the small calls of a delivery.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
FIXED = {
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
# For a delivery: our own loop retries, because it first checks whether the server carried out the
# lost call, to avoid creating a run twice.
DELIVERY = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
# The characters allowed in values that are sent to a server: MLflow's client fails on others.
ASCII, UNICODE = r"[ -~]*", r"[^\ud800-\udfff]*"
SENT = {
    "MLFLOW_TRACKING_TOKEN": ASCII,
    "MLFLOW_WORKSPACE": ASCII,
    "MLFLOW_TRACKING_USERNAME": UNICODE,
    "MLFLOW_TRACKING_PASSWORD": UNICODE,
}
READING = DELIVERY | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}


def set_up(variables: MutableMapping[str, str]) -> None:
    """Remove or set MLflow's variables in place. Telemetry is off unless the user turned it on."""
    for name in list(_foreign(variables)):
        del variables[name]
    variables.update(FIXED)
    for name, value in DEFAULTS.items():
        variables.setdefault(name, value)
    if "MLFLOW_DISABLE_TELEMETRY" not in variables:
        variables["MLFLOW_DISABLE_TELEMETRY"] = "true"
        variables.setdefault("DO_NOT_TRACK", "true")


def unsendable(variables: Mapping[str, str]) -> str | None:
    """Which variable has a value that cannot be sent to a server, in words; None if none has."""
    for name, expected in SENT.items():
        if not re.fullmatch(expected, variables.get(name, "")):
            letters = "plain ASCII" if expected == ASCII else "UTF-8"
            return f"{name} cannot be sent to a server: expected {letters}; set it again"
    return None


def _foreign(variables: MutableMapping[str, str]) -> Iterator[str]:
    """The names of MLflow's variables that are not kept."""
    for name in variables:
        is_kept = name in KEPT or name.startswith(KEPT_PREFIXES) or "_MULTIPART_" in name
        if name.startswith(("MLFLOW_", "_MLFLOW_")) and not is_kept:
            yield name
