"""A chat template in the template language of Go, which Ollama uses, found from what the Jinja template writes.

A Jinja template is a program; what it writes between the turns is text. That text is read off renderings with marked
contents, by the role in front and the role behind, and the Go template chooses it by the same two. Renderings of other
conversations prove that nothing else decides; a template for which something else does is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from werkmeister.bases.templates import TemplateRefusal, render
from werkmeister.errors import ParityError

_PAIRS = (("", "system"), ("", "user"), ("system", "user"), ("user", "assistant"), ("assistant", "user"))
_END = "user"


@dataclass(frozen=True)
class Pieces:
    """`between` maps (role in front, or "" at the start; role behind) to the text that stands between the contents;
    `opening` follows the last question."""

    between: Mapping[tuple[str, str], str]
    opening: str

    def joined(self, turns: Sequence[tuple[str, str]]) -> str:
        """What the Go template writes for turns of (role, content) that end with a question."""
        parts, before = [], ""
        for role, content in turns:
            parts += [self.between[before, role], content]
            before = role
        return "".join((*parts, self.opening))


def read_pieces(template: str, special: Mapping[str, str]) -> Pieces:
    """Read the pieces of a Jinja template off its renderings.

    `special` maps bos_token and so on to their texts. Raises ParityError when the texts between turns depend on more
    than the roles beside them.
    """
    between: dict[tuple[str, str], str] = {}
    opening = ""
    try:
        for roles in (("user", "assistant", "user"), ("system", "user", "assistant", "user")):
            turns = [(role, f"Xturn{number}X") for number, role in enumerate(roles)]
            rest, before = _rendered(template, special, turns), ""
            for role, content in turns:
                piece, mark, rest = rest.partition(content)
                if not mark or between.setdefault((before, role), piece) != piece:
                    raise _refused(f"what stands between {before or 'the start'} and {role} is not always the same")
                before = role
            opening = rest
        pieces = Pieces(between, opening)
        for turns in _probes():
            if pieces.joined(turns) != _rendered(template, special, turns):
                raise _refused(f"a conversation of {', '.join(role for role, _ in turns)} is written otherwise")
    except TemplateRefusal as error:
        raise _refused(str(error)) from error
    return pieces


def go_template(pieces: Pieces) -> str:
    """The Go template that writes these pieces, over Ollama's `.Messages`."""
    choices = ""
    for role in dict.fromkeys(role for _, role in _PAIRS):
        befores = [before for before, behind in _PAIRS if behind == role]
        choices += f'{{{{ {"else " if choices else ""}if eq .Role "{role}" }}}}{_by_before(pieces, befores, role)}'
    body = f"{choices}{{{{ end }}}}{{{{ $before = .Role }}}}"
    return f'{{{{ $before := "" }}}}{{{{ range .Messages }}}}{body}{{{{ end }}}}{_literal(pieces.opening)}'


def _by_before(pieces: Pieces, befores: Sequence[str], role: str) -> str:
    texts = {before: _literal(pieces.between[before, role]) for before in befores}
    *tested, last = sorted(texts, key=lambda before: before == "")
    written = ""
    for number, before in enumerate(tested):
        written += f'{{{{ {"else if" if number else "if"} eq $before "{before}" }}}}{texts[before]}'
    written += f"{{{{ else }}}}{texts[last]}{{{{ end }}}}" if tested else texts[last]
    return f"{written}{{{{ .Content }}}}"


def _literal(text: str) -> str:
    """Text as it stands in a Go template; braces that would open an action are written by one."""
    return text.replace("{{", '{{ "{{" }}')


def _rendered(template: str, special: Mapping[str, str], turns: Sequence[tuple[str, str]]) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    return render(template, messages, special, generation=True)


def _probes() -> Iterator[list[tuple[str, str]]]:
    long = ["user", "assistant"] * 3 + ["user"]
    for roles in (["user"], ["system", "user"], long, ["system", *long]):
        yield [(role, f"{role} says {number}: two\nlines, ä and 'quotes'") for number, role in enumerate(roles)]


def _refused(why: str) -> ParityError:
    return ParityError(
        "the chat template of the model cannot be written in Ollama's template language",
        problems=[why],
        hint="use --target gguf with llama.cpp, which runs the template itself",
    )
