"""Takes the problems of one source, each at the place of its path."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from chaoslab.spec.yaml.problems import KeyPath, Level, Located, Problem


@dataclass(frozen=True)
class Report:
    """Call it with a path, a message and the id of the rule that found it; `problems` fills up.

    Paths count from `under`. `key`: the problem is shown at the key rather than at its value.
    """

    located: Located
    problems: list[Problem] = field(default_factory=list)
    under: KeyPath = ()

    def __call__(self, path: KeyPath, message: str, rule: str, *, level: Level = "error", key: bool = False) -> None:
        whole = (*self.under, *path)
        place = self.located.key_at(whole) if key else self.located.value_at(whole)
        self.problems.append(Problem.at(place, message, rule, level))

    def below(self, *path: str | int) -> Report:
        """The same for what lies below a path."""
        return replace(self, under=(*self.under, *path))
