"""SQS's operations, compiled from the model that botocore ships: what each takes and answers, in both protocols."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from redrive.errors import DeclarationError
from redrive.sqs_api.forms import Formers, Node
from redrive.sqs_api.refusals import Naming, naming
from redrive.sqs_api.shapes import Readers
from redrive.sqs_api.xml import Writers

Request = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of SQS."""

    name: str
    """As the model has it."""
    read: Callable[[object], Request]
    """Makes a request of what JSON says; raises `Refused`."""
    form: Callable[[Node], Any]
    """Makes what JSON would say of a form."""
    result: Callable[[Mapping[str, Any]], str] | None
    """Writes the answer as XML; None where there is nothing to say."""


class Contract:
    """All operations and errors."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        shapes = model["shapes"]
        readers, formers, writers = Readers(shapes), Formers(shapes), Writers(shapes)
        self.target_prefix: str = model["metadata"]["targetPrefix"]
        self.operations: Mapping[str, Operation] = {
            name: Operation(
                name,
                readers.request(given["input"]["shape"]),
                formers.of(given["input"]["shape"]),
                writers.result(given["output"]["shape"]) if "output" in given else None,
            )
            for name, given in model["operations"].items()
        }
        self._modelled = frozenset(name for name, shape in shapes.items() if shape.get("exception"))
        self._namings: dict[str, Naming] = {}

    def naming(self, code: str) -> Naming:
        """What an error is called in each protocol."""
        if code not in self._namings:
            self._namings[code] = naming(code, self._modelled)
        return self._namings[code]


def load() -> Contract:
    """Read the model; some 20 ms.

    It is the one that botocore ships, not what a user keeps in `~/.aws/models`. The file is read as it lies: to import
    botocore's loader would take three times as long, and half again of the memory that the endpoint needs.

    Raises:
        DeclarationError: If botocore is not installed, or ships no model of SQS.
    """
    found = find_spec("botocore")
    if found is None or not found.submodule_search_locations:
        raise missing("botocore")
    folder = Path(found.submodule_search_locations[0]) / "data" / "sqs"
    files = sorted(folder.glob("*/service-2.json*"))
    if not files:
        raise missing("a botocore that ships the model of SQS")
    content = files[-1].read_bytes()  # the newest version of the API stands last
    return Contract(json.loads(gzip.decompress(content) if files[-1].suffix == ".gz" else content))


def missing(package: str) -> DeclarationError:
    """A package of the extra is not there."""
    return DeclarationError("the SQS endpoint", f"needs {package}", 'install it with `pip install "redrive[serve]"`')
