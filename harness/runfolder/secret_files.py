"""Recognize files that are never recorded with a run, because their names suggest secrets."""

from fnmatch import fnmatchcase

# Names of files and folders, in lower case.
SECRETS = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".npmrc", ".pypirc"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.asc"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".ssh", ".aws", ".gnupg", ".kube"),
    *("*credential*", "*secret*", "*password*", "*passwd*", "*.token", "token.*", ".htpasswd"),
    *("service-account*.json", "service_account*.json", ".git-credentials", ".dockercfg"),
)


def looks_secret(path: str) -> bool:
    """Whether the name of a file, or of a folder above it, is typical of keys and passwords.

    Python files never count: source is always recorded.
    """
    if path.endswith(".py"):
        return False
    parts = path.lower().split("/")
    return any(fnmatchcase(part, pattern) for part in parts for pattern in SECRETS)
