"""Settings of a session: SET and RESET as statements, which over HTTP are parameters of each request."""
from __future__ import annotations

from typing import Optional

from .errors import ProgrammingError
from .sqltext import Statement

# SQL's name -> the request's; and where it is taken
OF_QUERY = {"distributed": "distributed", "summarize": "summarize", "strategy": "strategy", "read_consistency": "consistency",
            "max_staleness": "max_staleness", "timezone": "timezone"}
OF_EXECUTE = {"timezone": "timezone", "default_partitioning": "default_partitioning"}
KNOWN = frozenset((*OF_QUERY, *OF_EXECUTE))


class Settings(dict[str, str]):
    """By SQL's names."""

    def apply(self, statement: Statement) -> None:
        """Carry out a SET or RESET; raises ProgrammingError for a setting that a client cannot change."""
        words = [token.text for token in statement.words[1:]]
        if words and words[0].upper() in ("SESSION", "LOCAL"):
            words.pop(0)
        name = words[0].strip('"').lower() if words else ""
        if statement.verb == "RESET":
            if name == "all" and len(words) == 1:
                self.clear()
                return
            self._known(name)
            self.pop(name, None)
            return
        if [word.upper() for word in words[:2]] == ["TIME", "ZONE"]:
            name, words = "timezone", ["timezone", "="] + words[2:]
        self._known(name)
        if len(words) < 3 or words[1].upper() not in ("=", "TO"):
            raise ProgrammingError(f"SET {name} takes one value, as in SET {name} = 'value'", sqlstate="42601")
        value = "".join(words[2:])
        if value.startswith("'"):
            value = value[1:-1].replace("''", "'")
        self[name] = value

    def query(self, reads: bool) -> dict[str, Optional[str]]:
        """The parameters of a request that reads, or of one that writes."""
        names = OF_QUERY if reads else OF_EXECUTE
        return {names[name]: value for name, value in self.items() if name in names}

    @staticmethod
    def _known(name: str) -> None:
        if name not in KNOWN:
            raise ProgrammingError(f'"{name}" is no setting of a session', sqlstate="42704", hint=f"There are: {', '.join(sorted(KNOWN))}.")
