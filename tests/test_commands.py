"""Command lines with placeholders."""

import re

import pytest

from offload.commands import check_command, filled
from offload.errors import ArgumentMismatch

ONE = ["/in/clip.mov"]


def line(*arguments: str, inputs: list[str] = ONE, **named: str) -> list[str]:
    return filled(check_command(arguments), inputs, named, lambda extension: f"/out/x{extension}")


class TestAPlaceholder:
    def test_stands_for_the_only_input(self) -> None:
        assert line("p", "-i", "{input}") == ["p", "-i", "/in/clip.mov"]

    def test_stands_for_a_named_input(self) -> None:
        assert line("p", "--cut={input.cut}", cut="/in/a b") == ["p", "--cut=/in/a b"]

    def test_stands_for_all_inputs_as_arguments_of_their_own(self) -> None:
        assert line("p", "{inputs}", "z", inputs=["/a", "/b"]) == ["p", "/a", "/b", "z"]
        assert line("p", "{inputs}", inputs=[]) == ["p"]

    def test_stands_for_an_output(self) -> None:
        assert line("p", "{output}", "{output.tar.gz}") == ["p", "/out/x", "/out/x.tar.gz"]

    def test_is_not_found_in_what_it_stands_for(self) -> None:
        assert line("p", "{input}", inputs=["/{output}"]) == ["p", "/{output}"]

    def test_is_none_in_doubled_braces(self) -> None:
        assert line("p", "{{input}} {{}}") == ["p", "{input} {}"]

    @pytest.mark.parametrize("inputs", [[], ["/a", "/b"]])
    def test_for_the_only_input_needs_exactly_one(self, inputs: list[str]) -> None:
        with pytest.raises(ArgumentMismatch, match="one input file is needed"):
            line("p", "{input}", inputs=inputs)

    def test_for_a_named_input_needs_it(self) -> None:
        with pytest.raises(ArgumentMismatch, match="mask: is missing, or is no file"):
            line("p", "{input.mask}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "needs a program"),
        ([""], "needs a program"),
        (["{input}"], "cannot be a placeholder"),
        (["p", "{size}"], "{size} is none of {input}"),
        (["p", "{}"], "{} is none of"),
        (["p", "{input"], "write {{ and }} for braces"),
        (["p", "x}"], "write {{ and }} for braces"),
        (["p", "{output./x}"], "is none of"),
        (["p", "--all={inputs}"], "must be an argument of its own"),
        (["p", "a\0b"], "holds a NUL"),
    ],
)
def test_a_wrong_command_is_refused_with_the_reason(arguments: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        check_command(arguments)
