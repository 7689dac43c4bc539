"""
Command lines with placeholders: ``["ffmpeg", "-i", "{input}", "{output.mp4}"]``.

``{input}`` is the path of the only input file, ``{input.NAME}`` that of the argument ``NAME``,
``{inputs}``, alone, those of all; ``{output}`` and ``{output.EXT}`` are paths to be written.
``{{`` and ``}}`` are braces. There is no shell.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from offload.errors import ArgumentMismatch

_PART: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_KNOWN: Final = re.compile(r"input|inputs|input\.[A-Za-z0-9_]+|output|output\.[A-Za-z0-9.]+")


def check_command(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return ``arguments``; raise ``ValueError`` with what is wrong with them."""
    if not arguments or not arguments[0]:
        raise ValueError('needs a program, such as ["ffmpeg", "-i", "{input}", "{output.mp4}"]')
    for argument in arguments:
        if "\0" in argument:
            raise ValueError(f"{argument!r} holds a NUL")
        for part in _PART.finditer(argument):
            if part[0] not in ("{{", "}}") and not _KNOWN.fullmatch(part[1] or ""):
                raise ValueError(
                    f"{argument!r}: {part[0]} is none of {{input}}, {{input.NAME}}, {{inputs}},"
                    " {output}, {output.EXT}; write {{ and }} for braces"
                )
        if "{inputs}" in argument and argument != "{inputs}":
            raise ValueError(f"{argument!r}: {{inputs}} must be an argument of its own")
    if _PART.search(arguments[0]):
        raise ValueError("the program itself cannot be a placeholder")
    return tuple(arguments)


def filled(
    arguments: Sequence[str],
    inputs: Sequence[str],
    named: Mapping[str, str],
    output: Callable[[str], str],
) -> list[str]:
    """
    Return the command line for one job.

    Args:
        arguments: As ``check_command`` has returned them.
        inputs: Paths of all input files.
        named: Those of arguments that are files, by name.
        output: Given an extension ("" or ``".mp4"``), returns the path to be written.

    Raises:
        ArgumentMismatch: If an input file is missing, or it is unclear which one is meant.
    """

    def replaced(part: re.Match[str]) -> str:
        if part[0] in ("{{", "}}"):
            return part[0][0]
        kind, _, name = part[1].partition(".")
        if kind == "output":
            return output(f".{name}" if name else "")
        if name and name not in named:
            raise ArgumentMismatch(name, "is missing, or is no file")
        if not name and len(inputs) != 1:
            raise ArgumentMismatch("input", f"one input file is needed, {len(inputs)} were given")
        return named[name] if name else inputs[0]

    line: list[str] = []
    for argument in arguments:
        line += inputs if argument == "{inputs}" else [_PART.sub(replaced, argument)]
    return line
