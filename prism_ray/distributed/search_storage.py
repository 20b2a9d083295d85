"""Optuna's database: a journal file, an SQLite file, or a server by its URL; one that is locked is waited for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, OperationalError

from prism_ray.errors import ConfigError, Fault, SearchDatabaseError
from prism_ray.tracking import redact, with_driver

_LOCK_WAIT_S = 5
"""How long one call waits for another process's lock; then it is made again, so that the wait is bounded and said."""
PATIENCE_S = 120.0
"""How long a database that is locked, or gone, is asked again."""
_PAUSE_S = 0.5

_log = logging.getLogger(__name__)
T = TypeVar("T")


def open_storage(location: str | Path) -> BaseStorage:
    """Optuna's database at a place.

    Args:
        location: a `.journal` file (on any shared folder), a `.db` file (SQLite, one machine), or the URL of an SQLite
            or PostgreSQL database.

    Raises:
        ConfigError: none of these, its driver is not installed, or it does not answer.
        SearchDatabaseError: somebody else holds it locked for too long.
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


class _Patience:
    """Asks a storage, again where its database is locked or its server away, for `PATIENCE_S` at most.

    Every call of a storage is one transaction, so that what failed has left nothing behind.

    Args:
        inner: the storage.
        shown: its address, without credentials.
    """

    def __init__(self, inner: BaseStorage, shown: str) -> None:
        self._inner = inner
        self._shown = shown

    def _ask(self, name: str, *args: Any, **named: Any) -> Any:
        return patiently(lambda: getattr(self._inner, name)(*args, **named), self._shown, _is_away)


# The methods are those that a storage must have by Optuna's own list: none can be forgotten.
_METHODS = {name: partialmethod(_Patience._ask, name) for name in sorted(BaseStorage.__abstractmethods__)}
_PatientStorage: Any = type("PatientStorage", (_Patience, BaseStorage), _METHODS)


def patiently(call: Callable[[], T], shown: str, is_passing: Callable[[Exception], bool]) -> T:
    """Result of a call, made again while it fails for a reason that may pass.

    Args:
        shown: the database's address, without credentials.
        is_passing: whether an error is such a reason.

    Raises:
        SearchDatabaseError: it failed for `PATIENCE_S`.
    """
    end = time.monotonic() + PATIENCE_S
    said = False
    while True:
        try:
            return call()
        except Exception as problem:
            if not is_passing(problem):
                raise
            reason = _reason(problem)
            if time.monotonic() >= end:
                raise _gave_up(shown, reason) from problem
        if not said:
            _log.warning("searcher's database %s: %s; it is asked again for %g s", shown, reason, PATIENCE_S)
            said = True
        time.sleep(_PAUSE_S)


def _database(url: str) -> BaseStorage:
    shown = redact(url)
    try:
        inner = patiently(lambda: RDBStorage(with_driver(url), engine_kwargs=_options(url)), shown, _is_locked)
    except NoSuchModuleError:
        raise ConfigError(
            f"{shown}: is no database that can be used; use postgresql+psycopg2://... or sqlite:////ABSOLUTE/PATH.db"
        ) from None
    except ImportError as problem:
        raise ConfigError(
            f"{shown}: its driver is not installed ({problem.name}); pip install prism-ray[postgresql]"
        ) from None
    except OperationalError as problem:
        raise ConfigError(f"{shown}: cannot be opened ({_reason(problem)}); check address, user and password") from None
    storage: BaseStorage = _PatientStorage(get_storage(inner), shown)
    return storage


def _options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": _LOCK_WAIT_S}}
    # A connection that a server closed while a trial trained for hours is replaced, not used.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("postgresql"):
        options["connect_args"] = {"options": f"-c lock_timeout={_LOCK_WAIT_S}s"}
    return options


def _is_away(problem: Exception) -> bool:
    """Whether a database that was open is locked or gone: nothing is wrong with what it was asked."""
    cause = problem.__cause__ if isinstance(problem, StorageInternalError) else problem
    return isinstance(cause, OperationalError) or (isinstance(cause, DBAPIError) and cause.connection_invalidated)


def _is_locked(problem: Exception) -> bool:
    """Whether a database that is being opened is locked, and not the wrong one."""
    return _is_away(problem) and any(word in _reason(problem) for word in ("is locked", "lock timeout"))


def _reason(problem: Exception) -> str:
    """First line of what the database's driver says."""
    cause = problem.__cause__ if isinstance(problem, StorageInternalError) else problem
    original = getattr(cause, "orig", None)
    lines = str(original or cause).strip().splitlines()
    return redact(lines[0]) if lines else "it does not answer"


def _gave_up(shown: str, reason: str) -> SearchDatabaseError:
    fault = Fault(
        f"searcher's database {shown}",
        f"does not take what it is told for {PATIENCE_S:g} s ({reason})",
        "see who holds it, or start its server; finished trials and checkpoints are kept, and the same command, or "
        "`prism-ray resume`, goes on with them",
    )
    return SearchDatabaseError(str(fault), [fault])
