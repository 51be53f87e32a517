"""Check the Python package through which SQLAlchemy reaches a tracking store's database."""

from harness.runfolder.target import DATABASES, shown

BUILT_IN = ("sqlite", "sqlite+pysqlite")
PACKAGES = {  # module -> package, if the names differ
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
}


def obstacle(uri: str) -> str | None:
    """Why no driver can open the address of a tracking store, in words; None if one can.

    Connects to nothing, and imports SQLAlchemy only for a database that is not SQLite.
    """
    scheme = uri.partition("://")[0].lower()
    if scheme in BUILT_IN or scheme.partition("+")[0] not in DATABASES:
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        dialect = make_url(uri).get_dialect()
        if dialect.is_async:
            return f"MLflow cannot use {dialect.driver}, an asynchronous driver; name another"
        dialect.import_dbapi()
    except ModuleNotFoundError as error:
        module = (error.name or scheme).partition(".")[0]
        package = PACKAGES.get(module, module)
        return (
            f"the driver of this database, {module}, is not installed; "
            f"`python -m pip install {package}` installs it"
        )
    except ImportError as error:
        return f"the driver of this database cannot be imported: {error}; repair it"
    except (ArgumentError, ValueError) as error:  # no such driver, or the port is not a number
        return f"SQLAlchemy cannot use it: {shown(str(error))}"
    return None
