"""Runs a model's chat template: foreign code, within bounds of time and memory.

Jinja's sandbox keeps a template from Python's insides, and not from looping for ever, nor from
doubling a text until the memory is full. So every loop and macro looks at the clock, and whatever
makes a large value out of small ones is measured before it does.

Names and filters are those that templates on the hub rely on: `tojson` without escapes for HTML,
`raise_exception`, `strftime_now`, loop controls, and `{% generation %}`, which marks text for
training and means nothing here. Source: "Chat templates" in the documentation of transformers.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from time import monotonic
from typing import Any, Final

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

_CLOCK: Final = "_check_clock"
_MAX_BITS: Final = 4096
_MAX_INDENT: Final = 100
# They make more than they are given, and no known template uses them.
_LEFT_OUT: Final = ("center", "format", "wordwrap", "urlize", "xmlattr", "pprint", "batch", "slice")
_WIDENING: Final = ("center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill")


class BoundError(TemplateError):
    """The template went over a bound."""


class ChatSandbox:
    """One compiled template. Threads may share it.

    Args:
        max_size: characters of the output, and size of every value on the way to it.
        max_s: time for one rendering.

    Raises:
        jinja2.TemplateError: the source is no template.
    """

    def __init__(self, source: str, *, max_size: int, max_s: float) -> None:
        self._max_s = max_s
        self._template = _BoundedEnvironment(max_size).from_string(source)

    def render(self, names: Mapping[str, Any]) -> str:
        """Return the text.

        Raises:
            BoundError: it takes too long, or is too long.
            jinja2.TemplateError: the template refuses what it is given.
            Exception: whatever else comes of foreign code, TypeError and LookupError for example.
        """
        deadline = monotonic() + self._max_s

        def check_clock() -> str:
            if monotonic() > deadline:
                raise BoundError("it takes too long")
            return ""

        return self._template.render({**names, _CLOCK: check_clock})


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: its body."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _BoundedCode(CodeGenerator):
    """Code whose `~` is measured."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        """Write a call of the environment's own."""
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's own sandbox, with a clock and a measure."""

    code_generator_class = _BoundedCode
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, max_size: int) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        self._max_size = max_size
        for name in _LEFT_OUT:
            del self.filters[name]
        self.filters |= {"replace": self._replace, "join": self._join, "indent": self._indent}
        self.filters["tojson"] = _to_json
        self.globals |= {"raise_exception": _raise, "strftime_now": _now}
        del self.globals["lipsum"]

    def concat(self, parts: Iterable[object]) -> str:
        """Return the parts of a `~`, a block, a macro or the whole output as one text."""
        texts = [str(part) for part in parts]
        self._check(sum(map(len, texts)))
        return "".join(texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Calculate what does not become too large."""
        if operator == "%" and isinstance(left, str):
            raise SecurityError("it formats by %")
        if operator == "+" and isinstance(left, str | list | tuple):
            self._check(len(left) + len(right))
        if operator == "*":
            self._check_product(left, right)
        if operator == "**" and isinstance(right, int | float) and abs(right) > _MAX_BITS:
            raise BoundError("it makes too large a number")
        return _small(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what does not become too large."""
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, str):
            if name in _WIDENING:
                raise SecurityError(f"it calls {name}")
            if name == "replace":
                return self._replace(owner, *args, **kwargs)
            if name == "join":
                return self._join(args[0], owner)
        return super().call(context, function, *args, **kwargs)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Look at the clock at the beginning of every body that may run more than once."""
        template = super()._parse(source, name, filename)
        bodies = (nodes.For, nodes.Macro, nodes.CallBlock)
        for node in list(template.find_all(bodies)):
            assert isinstance(node, bodies)
            clock = nodes.Name(_CLOCK, "load")
            look = nodes.Output([nodes.Call(clock, [], [], None, None)])
            look.set_lineno(node.lineno)
            look.set_environment(self)
            node.body.insert(0, look)
        return template

    def _replace(self, text: object, old: object, new: object, count: int = -1) -> str:
        text, old, new = str(text), str(old), str(new)
        found = text.count(old) if old else len(text) + 1
        self._check(len(text) + found * len(new))
        return text.replace(old, new, count)

    def _join(self, values: Iterable[object], separator: object = "") -> str:
        texts, separator = [str(value) for value in values], str(separator)
        self._check(sum(map(len, texts)) + len(texts) * len(separator))
        return separator.join(texts)

    def _indent(
        self, text: object, width: int | str = 4, first: bool = False, blank: bool = False
    ) -> str:
        space = width if isinstance(width, str) else " " * min(width, _MAX_INDENT)
        lines = str(text).split("\n")
        self._check(len(str(text)) + len(lines) * len(space))
        return "\n".join(
            space + line if (first or index) and (blank or line) else line
            for index, line in enumerate(lines)
        )

    def _check_product(self, left: object, right: object) -> None:
        for repeated, times in ((left, right), (right, left)):
            if isinstance(repeated, str | list | tuple) and isinstance(times, int):
                self._check(len(repeated) * times)

    def _check(self, size: int) -> None:
        if size > self._max_size:
            raise BoundError("it makes too large a value")


def _small(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise BoundError("it makes too large a number")
    return value


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    indent = None if indent is None else min(indent, _MAX_INDENT)
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form[:_MAX_INDENT])
