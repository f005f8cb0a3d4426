"""Fields of OpenAI's dialects about the form of the answer, and vLLM's; tools and their calls."""

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.api.answers.chat_output import ToolWishes, tool_wishes
from app.errors import BadRequestError
from app.inference.requests import ChatTool, ChatToolCall, OutputConstraint

MAX_TOOLS: Final = 128
MAX_CALLS: Final = 128
_MAX_TEXT: Final = 1024 * 1024

JsonObject = dict[str, Any]
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, populate_by_name=True)


class SchemaFormat(_Part):
    """A schema with a name. It is always kept to, whatever `strict` says."""

    name: str = Field(max_length=200)
    definition: JsonObject | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Part):
    """OpenAI's `response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None

    def constraint(self) -> OutputConstraint | None:
        """Return it as the engine takes it."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return OutputConstraint("json_object")
        if self.json_schema is None:
            raise BadRequestError(
                "response_format.json_schema: expected a value, got nothing",
                "response_format.json_schema",
            )
        schema = self.json_schema.definition
        return OutputConstraint("json_object") if schema is None else schema_constraint(schema)


class StructuredOutputs(_Part):
    """vLLM's `structured_outputs`: one of these."""

    json_: JsonObject | str | None = Field(default=None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None

    def constraints(self) -> dict[str, OutputConstraint]:
        """Return what is asked for, by the names of the fields."""
        return _constraints(
            self.json_, self.regex, self.choice, self.grammar, is_object=self.json_object is True
        )


class StructuredFields(BaseModel):
    """What the output must look like; at most one of these, in any of the three forms."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: JsonObject | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    def constraint(self) -> OutputConstraint | None:
        """Return it as the engine takes it; whether it is a valid one is found out later.

        Raises:
            BadRequestError: there is more than one.
        """
        found = _constraints(
            self.guided_json, self.guided_regex, self.guided_choice, self.guided_grammar
        )
        found = {f"guided_{name}": constraint for name, constraint in found.items()}
        if self.structured_outputs is not None:
            inner = self.structured_outputs.constraints()
            found |= {f"structured_outputs.{name}": value for name, value in inner.items()}
        wanted = self.response_format and self.response_format.constraint()
        if wanted:
            found["response_format"] = wanted
        if len(found) > 1:
            first, second, *_ = sorted(found)
            raise BadRequestError(f"{second}: the answer has its form from {first} already", second)
        return next(iter(found.values()), None)


class FunctionFields(_Part):
    """A function that may be called."""

    name: ToolName
    description: str | None = Field(default=None, max_length=_MAX_TEXT)
    parameters: JsonObject | None = None


class ToolFields(_Part):
    """One of `tools`."""

    type: Literal["function"]
    function: FunctionFields

    def to_tool(self) -> ChatTool:
        """Return the tool as the engine takes it."""
        function = self.function
        return ChatTool(function.name, function.description or "", function.parameters or {})


class NamedFunction(_Part):
    """The name of a function."""

    name: ToolName


class NamedTool(_Part):
    """A choice of one tool."""

    type: Literal["function"]
    function: NamedFunction


class AllowedToolNames(_Part):
    """Which of the tools may be called, and whether one must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedTools(_Part):
    """A choice of some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedToolNames


class ToolUseFields(BaseModel):
    """Which tools there are, and how they may be used."""

    tools: Annotated[list[ToolFields], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedTools | None = None
    parallel_tool_calls: bool | None = None

    def tool_wishes(self) -> ToolWishes:
        """Return them as the engine takes them. Raises as `tool_wishes` does."""
        tools = [tool.to_tool() for tool in self.tools or ()]
        is_parallel = self.parallel_tool_calls is not False
        match self.tool_choice:
            case NamedTool() as chosen:
                name = chosen.function.name
                return tool_wishes(tools, "required", name=name, is_parallel=is_parallel)
            case AllowedTools(allowed_tools=allowed):
                names = [tool.function.name for tool in allowed.tools]
                return tool_wishes(tools, allowed.mode, allowed=names, is_parallel=is_parallel)
            case choice:
                return tool_wishes(tools, choice or "auto", is_parallel=is_parallel)


class CalledFunction(_Part):
    """What an assistant has called."""

    name: str = Field(max_length=200)
    arguments: str = Field(max_length=_MAX_TEXT)


class ToolCallFields(_Part):
    """One of an assistant's `tool_calls`."""

    id: str = Field(max_length=200)
    type: Literal["function"] = "function"
    function: CalledFunction

    def to_call(self) -> ChatToolCall:
        """Return the call as the engine takes it."""
        return ChatToolCall(self.id, self.function.name, self.function.arguments)


def _constraints(
    schema: JsonObject | str | None,
    regex: str | None,
    choice: list[str] | None,
    grammar: str | None,
    *,
    is_object: bool = False,
) -> dict[str, OutputConstraint]:
    found: dict[str, OutputConstraint] = {}
    if schema is not None:
        found["json"] = schema_constraint(schema)
    if is_object:
        found["json_object"] = OutputConstraint("json_object")
    if regex is not None:
        found["regex"] = OutputConstraint("regex", regex)
    if choice is not None:
        found["choice"] = OutputConstraint("choice", json.dumps(choice))
    if grammar is not None:
        found["grammar"] = OutputConstraint("grammar", grammar)
    return found


def schema_constraint(schema: JsonObject | str) -> OutputConstraint:
    """Return what keeps to a schema, as an object or as JSON text.

    Equal schemas have equal texts; the order of properties is that of the output.
    """
    return OutputConstraint(
        "json_schema", schema if isinstance(schema, str) else json.dumps(schema)
    )
