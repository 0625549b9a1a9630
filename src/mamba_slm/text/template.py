"""Jinja for templates that nobody here wrote: sandboxed, and bounded in size, steps and output.

Chat templates arrive with models from anywhere. Jinja's sandbox keeps them away from Python; the limits here keep them
from using up the machine: every loop takes from one budget of steps, and no value or output may grow beyond a size.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from types import CodeType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mamba_slm.core.errors import DataError

MAX_TEMPLATE_CHARACTERS = 100_000
MAX_VALUE_SIZE = 4_000_000  # characters of a text, items of a list
MAX_STEPS = 200_000
MAX_NUMBER = 1 << 63
MAX_WORK = 1 << 26  # product of the sizes of all arguments: "replace" and "join" make that much out of them
CHARACTERS_PER_STEP = 64  # a large text costs more steps than a small one
SIZED = (str, list, tuple, dict, range)
GROWING_OPERATORS = frozenset({"+", "*", "**", "%"})
SHORTEN = "shorten the conversation, or use another chat template"


class GenerationBlock(Extension):
    """`{% generation %} … {% endgeneration %}` marks what the model says, the convention of transformers."""

    tags = {"generation"}  # noqa: RUF012 the base class declares it so

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("marked"), [], [], body).set_lineno(line)

    def marked(self, caller: Callable[[], str]) -> str:
        """Put the marks of this rendering around the block."""
        assert isinstance(self.environment, BoundedEnvironment)
        begin, end = self.environment.generation_marks
        return f"{begin}{caller()}{end}"


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """One template, one rendering: the budget of steps belongs to the environment."""

    intercepted_binops = GROWING_OPERATORS  # type: ignore[assignment]

    def __init__(self, generation_marks: tuple[str, str] = ("", "")):
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[GenerationBlock, "jinja2.ext.loopcontrols"],
        )
        self.generation_marks = generation_marks
        self.steps_left = MAX_STEPS
        self.filters = {name: self.bounded(function) for name, function in self.filters.items() if name != "format"}
        self.filters["tojson"] = self.bounded(to_json)
        self.filters["counted"] = self.counted
        self.filters["joined"] = self.joined
        self.globals = {"range": self.globals["range"], "namespace": self.globals["namespace"], "dict": dict}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Route every loop through `counted` and every `~` through `joined`."""
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "counted", [], [], None, None, lineno=loop.lineno)
            if loop.recursive:
                raise SecurityError("recursive loops are not allowed")
        self.replace_concatenations(tree)
        return tree

    def replace_concatenations(self, node: nodes.Node) -> None:
        """Replace `a ~ b` below `node` by `[a, b] | joined`."""
        for field, value in node.iter_fields():
            if isinstance(value, nodes.Concat):
                parts = nodes.List(value.nodes, lineno=value.lineno)
                setattr(node, field, nodes.Filter(parts, "joined", [], [], None, None, lineno=value.lineno))
            elif isinstance(value, list):
                value[:] = [
                    nodes.Filter(nodes.List(item.nodes), "joined", [], [], None, None, lineno=item.lineno)
                    if isinstance(item, nodes.Concat)
                    else item
                    for item in value
                ]
        for child in node.iter_child_nodes():
            self.replace_concatenations(child)

    def counted(self, values: Iterable[Any]) -> CountedValues:
        """Hand on the values of a loop, taking each from the budget of steps."""
        return CountedValues(self, self.checked(values if isinstance(values, SIZED) else list(values)))

    def joined(self, parts: list[Any]) -> str:
        """`a ~ b`, checked."""
        return self.checked("".join(map(str, parts)))

    def step(self, size: int = 0) -> None:
        """Take from the budget what handling a value of this size costs."""
        self.steps_left -= 1 + size // CHARACTERS_PER_STEP
        if self.steps_left < 0:
            raise SecurityError(f"the template takes more than {MAX_STEPS} steps")

    def bounded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its numbers and its result checked, one step per call."""

        @functools.wraps(function)
        def bounded_function(*values: Any, **named: Any) -> Any:
            self.check_arguments(*values, *named.values())
            return self.checked(function(*values, **named))

        return bounded_function

    def call(self, __context: Any, __obj: Any, *values: Any, **named: Any) -> Any:
        """Call a method or macro; string methods that build padding from a format are refused."""
        if getattr(__obj, "__name__", "") in ("format", "format_map"):
            raise SecurityError("str.format is not allowed")
        self.check_arguments(getattr(__obj, "__self__", None), *values, *named.values())
        return self.checked(super().call(__context, __obj, *values, **named))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute `+ * ** %` only where the result is bounded."""
        if operator == "%" and isinstance(left, str):
            raise SecurityError("formatting with % is not allowed")
        if operator == "**" or (operator == "*" and not all(isinstance(side, (int, float)) for side in (left, right))):
            raise SecurityError(f"the operator {operator} is allowed for plain products of numbers only")
        return self.checked(super().call_binop(context, operator, left, right))

    def checked(self, value: Any) -> Any:
        """The value, if its size is within the limit and the budget."""
        size = len(value) if isinstance(value, SIZED) else 0
        if size > MAX_VALUE_SIZE:
            raise SecurityError(f"a value grows beyond {MAX_VALUE_SIZE} items")
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise SecurityError("a number grows beyond 64 bits")
        self.step(size)
        return value

    def check_arguments(self, *values: Any) -> None:
        """Refuse a call whose result could be too large to build, whatever the function does with its arguments."""
        work = 1
        for value in values:
            if isinstance(value, int):
                work *= max(1, abs(value))
            elif isinstance(value, (list, tuple)):
                work *= 1 + sum(len(item) if isinstance(item, str) else 1 for item in value)
            elif isinstance(value, (str, dict, range)):
                work *= 1 + len(value)
        if work > MAX_WORK:
            raise SecurityError("a call with arguments of this size could take too much memory")


class CountedValues:
    """An iterable with a length, so that `loop.last` works, that counts every step."""

    def __init__(self, environment: BoundedEnvironment, values: Any):
        self.environment = environment
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        for value in self.values:
            self.environment.step()
            yield value


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON as transformers writes it in templates; Jinja's own filter escapes `<` and `&` for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


@functools.lru_cache(maxsize=16)
def compiled(source: str) -> CodeType:
    """The code of a template, which belongs to no environment: thousands of conversations are rendered with one.

    Raises:
        jinja2.TemplateError, SecurityError: it cannot be compiled; that is not remembered.
    """
    return BoundedEnvironment().compile(source)


def render_template(source: str, variables: dict[str, Any], *, generation_marks: tuple[str, str] = ("", "")) -> str:
    """Render a template within the limits.

    A template may call `raise_exception("reason")`, the convention for conversations it cannot express.

    Args:
        source: the Jinja template.
        variables: what it may use; strings, numbers, lists and dicts.
        generation_marks: put before and after every `{% generation %}` block.

    Raises:
        DataError: the template is broken, refuses the conversation, uses what the sandbox forbids, or exceeds a limit.
    """
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise DataError(f"the chat template has {len(source)} characters, more than {MAX_TEMPLATE_CHARACTERS}")

    def raise_exception(reason: str) -> str:
        raise DataError(f"the chat template refuses the conversation: {reason}", hint="change the messages")

    environment = BoundedEnvironment(generation_marks)
    environment.globals["raise_exception"] = raise_exception
    pieces: list[str] = []
    size = 0
    try:
        template = jinja2.Template.from_code(environment, compiled(source), environment.make_globals(None))
        for piece in template.generate(variables):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_VALUE_SIZE:
                raise SecurityError(f"the output grows beyond {MAX_VALUE_SIZE} characters")
    except jinja2.TemplateSyntaxError as error:
        raise DataError(
            f"the chat template has a mistake in line {error.lineno}: {error.message}", hint="correct the template"
        ) from error
    except SecurityError as error:
        raise DataError(f"the chat template was stopped: {error}", hint=SHORTEN) from error
    except jinja2.TemplateError as error:
        raise DataError(f"the chat template failed: {error}", hint="it may need a key that a message lacks") from error
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        raise DataError(
            f"the chat template failed: {type(error).__name__}: {error}", hint="check the form of the messages"
        ) from error
    return "".join(pieces)
