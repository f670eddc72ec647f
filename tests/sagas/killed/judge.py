"""What is wrong with a trial, by the ledger of the services and the journal."""

from __future__ import annotations

from typing import Any

from redrive.sagas.journal import Journal, State

ATTEMPTS = 5
EFFECTS = {
    "completed": ("charge/1", "reserve/1", "book/1", "confirm/1"),
    "undone": ("charge/1", "reserve/1", "book/1"),
    "stuck": ("charge/1", "reserve/1", "book/1"),
}
ENDS = {"completed": State.COMPLETED, "undone": State.UNDONE, "stuck": State.STUCK}


def faults_of(outcome: dict[str, Any]) -> list[str]:
    """Empty: nothing is wrong. Its points come first, so that it can be had again."""
    if not outcome["journal"]:
        return ["it never began"]
    journal, order = Journal.from_json(outcome["journal"].encode()), outcome["order"]
    found = [] if journal.state is ENDS[order] else [f"it ended {journal.state}: {journal.cause}; {journal.stuck}"]
    if journal.state is State.STUCK and not outcome["letters"]:
        found.append("stuck without a letter")
    calls = [(what, key.partition("/")[2]) for what, key, _ in outcome["calls"]]
    effects = [key for what, key in calls if what == "effect"]
    found += [f"{key} took effect {effects.count(key)} times" for key in set(effects) if effects.count(key) > 1]
    found += [f"{key} did not take effect" for key in EFFECTS[order] if key not in effects]
    for key in {key for _, key in calls}:
        tries = calls.count(("begin", key))
        if not key.endswith("/undo") and tries > ATTEMPTS:
            found.append(f"{key} was tried {tries} times")
    if not outcome["unchanged"]:
        found.append("its journal was written after its end")
    return found + _undos(order, effects) + _zombies(outcome)


def _undos(order: str, effects: list[str]) -> list[str]:
    undone = [key.removesuffix("/undo") for key in effects if key.endswith("/undo")]
    wanted = {"completed": [], "undone": ["book/1", "reserve/1", "charge/1"], "stuck": ["book/1"]}[order]
    found = [] if undone == wanted else [f"undone were {undone}"]
    early = [key for key in undone if key not in effects or effects.index(key) > effects.index(f"{key}/undo")]
    return found + [f"{key} took effect after its undo" for key in early]


def _zombies(outcome: dict[str, Any]) -> list[str]:
    """Who was stopped, and woke up when the saga had ended, begins nothing."""
    late = outcome["calls"][len(outcome["at_end"]) :]
    return [f"a zombie began {key}" for what, key, process in late if what == "begin" and process in outcome["zombies"]]
