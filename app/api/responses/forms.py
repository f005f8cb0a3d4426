"""Fields of the Responses dialect about the form of the answer: its text, and calls of tools."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.answers.chat_output import ToolWishes, tool_wishes
from app.api.openai.structured import MAX_TOOLS, ToolName, schema_constraint
from app.errors import BadRequestError
from app.inference.requests import ChatTool, OutputConstraint

JsonObject = dict[str, Any]
PLAIN_TEXT: Final[JsonObject] = {"format": {"type": "text"}}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, populate_by_name=True)


class TextFormat(_Part):
    """What the text must look like. A schema is always kept to, whatever `strict` says."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, max_length=200)
    description: str | None = None
    definition: JsonObject | None = Field(default=None, alias="schema")
    strict: bool | None = None

    def constraint(self) -> OutputConstraint | None:
        """Return it as the engine takes it."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return OutputConstraint("json_object")
        if self.definition is None:
            name = "text.format.schema"
            raise BadRequestError(f"{name}: expected a value, got nothing", name)
        return schema_constraint(self.definition)


class TextWishes(_Part):
    """`text`: of the answer, where it calls no tool."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    def constraint(self) -> OutputConstraint | None:
        """Return the format as the engine takes it. Raises BadRequestError if a part is missing."""
        return None if self.format is None else self.format.constraint()


class FunctionTool(_Part):
    """One of `tools`: a caller's own; none of OpenAI's is here."""

    type: Literal["function"]
    name: ToolName
    description: str | None = Field(default=None, max_length=1024 * 1024)
    parameters: JsonObject | None = None
    strict: bool | None = None

    def to_tool(self) -> ChatTool:
        """Return the tool as the engine takes it."""
        return ChatTool(self.name, self.description or "", self.parameters or {})


class NamedTool(_Part):
    """A choice of one tool."""

    type: Literal["function"]
    name: ToolName


class AllowedTools(_Part):
    """A choice of some of the tools; `required` is one call at least."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class FormFields(BaseModel):
    """What the answer may look like."""

    text: TextWishes | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedTools | None = None
    parallel_tool_calls: bool | None = None

    def constraint(self) -> OutputConstraint | None:
        """Return the form of the text. Raises as `TextWishes.constraint` does."""
        return None if self.text is None else self.text.constraint()

    def tool_wishes(self) -> ToolWishes:
        """Return the tools as the engine takes them. Raises as `tool_wishes` does."""
        tools = [tool.to_tool() for tool in self.tools or ()]
        is_parallel = self.parallel_tool_calls is not False
        match self.tool_choice:
            case NamedTool(name=name):
                return tool_wishes(tools, "required", name=name, is_parallel=is_parallel)
            case AllowedTools() as allowed:
                names = [tool.name for tool in allowed.tools]
                return tool_wishes(tools, allowed.mode, allowed=names, is_parallel=is_parallel)
            case choice:
                return tool_wishes(tools, choice or "auto", is_parallel=is_parallel)

    def form(self) -> "ResponseForm":
        """Return what the response says of it."""
        chosen = self.tool_choice
        text = self.text.model_dump(by_alias=True, exclude_none=True) if self.text else {}
        return ResponseForm(
            text={**PLAIN_TEXT, **text},
            tools=tuple(tool.model_dump() for tool in self.tools or ()),
            tool_choice=chosen.model_dump() if isinstance(chosen, _Part) else chosen or "auto",
            parallel_tool_calls=self.parallel_tool_calls is not False,
        )


class ResponseForm(BaseModel):
    """The fields of a response about its form, named as they are there; kept in its journal."""

    model_config = ConfigDict(frozen=True)

    text: JsonObject = PLAIN_TEXT
    tools: tuple[JsonObject, ...] = ()
    tool_choice: str | JsonObject = "auto"
    parallel_tool_calls: bool = True
