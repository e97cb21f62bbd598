"""The headers in which a client says more than its question: as they are documented, and as they are read.

Read here and not by FastAPI, whose way to a parameter costs as much as several tokens do, for each of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from sse_gateway.schemas import Key

if TYPE_CHECKING:
    from starlette.requests import Request

Value = TypeVar("Value")


class RequestHeader(Generic[Value]):
    """A header that may be there.

    Args:
        name: Its name.
        kind: The type of its value, with pydantic's rules.
        description: What it is for, in OpenAPI.
        examples: Values that it may have.
    """

    def __init__(self, name: str, kind: Any, description: str, examples: tuple[Value, ...] = ()) -> None:
        self._name = name
        self._kind: TypeAdapter[Value] = TypeAdapter(kind)
        schema = self._kind.json_schema() | ({"examples": list(examples)} if examples else {})
        self.parameter = {"name": name, "in": "header", "required": False, "description": description, "schema": schema}
        """An OpenAPI parameter object."""

    def read(self, request: Request) -> Value | None:
        """Returns a request's; None, if it has none.

        Raises:
            RequestValidationError: It breaks a rule.
        """
        values = request.headers.getlist(self._name)
        if not values:
            return None
        if len(values) > 1:  # Which of them is meant, only the client can know.
            raise RequestValidationError([{"type": "once", "loc": ("header", self._name), "msg": "Send it once"}])
        try:
            return self._kind.validate_python(values[0])
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            raise RequestValidationError([{**fault, "loc": ("header", self._name)} for fault in faults]) from None


def digits(text: str) -> str:
    """Refuses what Python and pydantic take for a number besides, such as 1_000.

    Raises:
        PydanticCustomError: There is something else in it.
    """
    if not re.fullmatch("[0-9]+", text):
        raise PydanticCustomError("digits", "Send digits alone")
    return text


IDEMPOTENCY_KEY = RequestHeader[str](
    "Idempotency-Key",
    Key,
    "Names this question. Whoever asks again with the same key, on either route, gets the same answer, live or "
    "replayed, and the model is asked once. Visible ASCII.",
    ("3f0d6a52-7c1e-4a0b-9d54-0b8b6f1c2e77",),
)
REQUEST_TIMEOUT_MS = RequestHeader[int](
    "X-Request-Timeout-Ms",
    Annotated[int, BeforeValidator(digits), Field(ge=1, le=3_600_000)],
    "How many milliseconds the client has for all of it, from the end of its request's head. An answer that takes "
    "longer ends with DEADLINE_EXCEEDED, and the model is stopped: at once without a key, and with one when nobody has "
    "come back for RESUME_WINDOW_SECONDS.",
)
