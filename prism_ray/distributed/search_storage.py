"""Optuna's database: a journal file, an SQLite file, or a server by its URL."""

from __future__ import annotations

from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import NoSuchModuleError, OperationalError

from prism_ray.errors import ConfigError
from prism_ray.tracking import redact

_LOCK_TIMEOUT_S = 60
"""How long a process waits for another one's write to an SQLite file."""


def open_storage(location: str | Path) -> BaseStorage:
    """Optuna's database at a place.

    Args:
        location: a `.journal` file (on any shared folder), a `.db` file (SQLite, one machine), or the URL of an SQLite
            or PostgreSQL database.

    Raises:
        ConfigError: none of these, its driver is not installed, or it does not answer.
    """
    if isinstance(location, str) and "://" in location:
        return _database(location)
    path = Path(location).absolute()
    if path.suffix not in (".journal", ".db"):
        raise ConfigError(f"{location}: is no searcher's database; use a .journal file, a .db file or a database URL")
    path.parent.mkdir(parents=True, exist_ok=True)
    return (
        JournalStorage(JournalFileBackend(str(path))) if path.suffix == ".journal" else _database(f"sqlite:///{path}")
    )


def _database(url: str) -> RDBStorage:
    shown = redact(url)
    # A connection that a server closed while a trial trained for hours is replaced, not used.
    options = {"connect_args": {"timeout": _LOCK_TIMEOUT_S}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return RDBStorage(url, engine_kwargs=options)
    except NoSuchModuleError:
        raise ConfigError(
            f"{shown}: is no database that can be used; use postgresql+psycopg2://... or sqlite:////ABSOLUTE/PATH.db"
        ) from None
    except ImportError as problem:
        raise ConfigError(
            f"{shown}: its driver is not installed ({problem.name}); pip install prism-ray[postgresql]"
        ) from None
    except OperationalError as problem:
        reason = str(problem.orig).strip().splitlines()[0] if problem.orig is not None else "it does not answer"
        raise ConfigError(f"{shown}: cannot be opened ({reason}); check address, user and password") from None
