"""An aiobotocore session whose clients read the answers of Amazon SQS as the JSON that they are.

botocore walks through each answer along its model, member by member; for SQS's JSON that ends in what `json.loads`
gave, but for blobs, which stay base64 here. Reading ten messages takes a tenth of the time so.
"""

from __future__ import annotations

import functools
import json
import logging
from typing import Any

from aiobotocore.parsers import AioJSONParser, AioResponseParserFactory
from aiobotocore.session import AioSession, get_session
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError

_FIRST_ERROR = 300


class _Parser(AioJSONParser):  # type: ignore[misc]  # aiobotocore has no types
    async def parse(self, response: dict[str, Any], shape: Any) -> Any:  # noqa: ANN401 - as aiobotocore has it
        if response["status_code"] >= _FIRST_ERROR:
            return await super().parse(response, shape)
        try:
            answer = json.loads(response["body"] or b"{}")
        except ValueError as error:
            raise ResponseParserError(f"no JSON: {error}") from error
        if not isinstance(answer, dict):
            raise ResponseParserError("no JSON object")
        return answer


class _Factory(AioResponseParserFactory):  # type: ignore[misc]  # likewise
    def create_parser(self, protocol_name: str) -> Any:  # noqa: ANN401 - likewise
        return _PARSER if protocol_name == "json" else super().create_parser(protocol_name)


_PARSER = _Parser()


def session(*, without_machine: bool) -> AioSession:
    """A new session; credentials by botocore's ordinary chain.

    Args:
        without_machine: do not ask the machine's or container's metadata service, which is not there on a laptop and
            takes seconds not to answer.
    """
    for name in ("aiobotocore.credentials", "botocore.credentials"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:  # where it found credentials is no news to who runs a worker
            logger.setLevel(logging.WARNING)
    made = get_session()
    made.register_component("data_loader", _loader(made.get_config_variable("data_path")))
    made.register_component("response_parser_factory", _Factory())
    if without_machine:
        made.get_component("credential_provider").remove("iam-role")
    return made


@functools.cache
def _loader(data_path: str | None) -> Any:  # noqa: ANN401 - botocore's have no type
    """What reads the model of Amazon SQS: once, though there may be a new session every few seconds."""
    return create_loader(data_path)
