"""Chat templates: rendering one without loading transformers, what ends a turn under it, and standard ones.

A template in force is always plain: it takes a system message, it does not think aloud, and the same text stands in
training, in the exported file and in front of every engine. `template_in_force` makes it so and says what it did.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from werkmeister.errors import BaseModelError

if TYPE_CHECKING:
    import jinja2

GEMMA = """{{ bos_token }}
{%- set lead = '' %}
{%- if messages[0]['role'] == 'system' %}
{%- set lead = messages[0]['content'] + '\\n\\n' %}
{%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
{{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
{{- (lead if loop.first else '') + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""
CHATML = """{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
PLAIN = """{%- if with_bos %}{{ bos_token }}{% endif %}
{%- for message in messages %}
{%- if message['role'] == 'system' %}
{{- message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'user' %}
{{- 'Question:\\n' + message['content'] + '\\n' }}
{%- else %}
{{- 'Answer:\\n' + message['content'] + eos_token + '\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Answer:\\n' }}{% endif %}
"""
_NO_THINKING = "{%- set enable_thinking = false %}"
_FOLDED = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{%- set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}]"
    " + messages[2:] %}{%- endif %}"
)
# Texts that no template writes or changes, to find the places of contents in a rendering.
_SYSTEM, _QUESTION, _ANSWER = "Xsystemtext7", "Xquestiontext7", "Xanswertext7"


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template in force: its Jinja text, where it comes from, and the texts of the tokens that end a turn."""

    text: str
    source: str
    stop: tuple[str, ...]


class TemplateRefusal(ValueError):
    """A template refused a conversation through `raise_exception`, or cannot be rendered."""


def template_in_force(own: str, special: Mapping[str, str], tokens: Collection[str]) -> Template:
    """The template to train and serve with.

    `own` is the base's template ("" where it has none), `special` maps bos_token and eos_token to their texts ("" where
    absent) and `tokens` are the special tokens of the vocabulary. Where the base has no template a standard one is
    supplied: gemma's when its turn tokens are in the vocabulary, ChatML when its are, else a plain one that ends with
    the eos token. A template that refuses or drops system messages gets them folded into the first question, and one
    that can think aloud has thinking turned off. Raises BaseModelError when the template cannot be rendered at all.
    """
    text, source = (own, "base") if own.strip() else _standard(special, tokens)
    if "enable_thinking" in text:
        text, source = _NO_THINKING + text, f"{source}, thinking turned off"
    if not _takes_system(text, special):
        text, source = _FOLDED + text, f"{source}, system message folded into the first question"
    try:
        stop = stop_texts(text, special, tokens)
    except TemplateRefusal as error:
        raise BaseModelError(
            f"the base's chat template cannot be used: {error}",
            hint="mend chat_template.jinja in the base's folder, or delete it to use a standard template",
        ) from error
    return Template(text=text, source=source, stop=stop)


def render(
    template: str,
    messages: Sequence[Mapping[str, str]],
    special: Mapping[str, str],
    *,
    generation: bool = False,
    tools: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Render a chat template as transformers does; `generation` adds the opening of the assistant's turn, `tools` are
    functions in OpenAI's form that the template describes to the model.

    Raises TemplateRefusal with the template's own words.
    """
    import jinja2

    try:
        # Templates ask "tools is not none": transformers passes both as None.
        given = {"messages": list(messages), "tools": list(tools) or None, "documents": None, **special}
        return _compiled(template).render(add_generation_prompt=generation, **given)
    except (jinja2.TemplateError, TypeError, KeyError, IndexError) as error:
        raise TemplateRefusal(str(error)) from error


def stop_texts(template: str, special: Mapping[str, str], tokens: Collection[str]) -> tuple[str, ...]:
    """The texts that end an assistant's turn: the first special token after the answer, then the eos token.

    Where the template closes a turn with plain text only, that text (without white space around it) comes first.
    """
    turns = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    closing = render(template, turns, special).rpartition(_ANSWER)[2]
    found = first_special(closing, tokens)
    eos = special.get("eos_token", "")
    ends = [found or closing.strip(), eos]
    return tuple(dict.fromkeys(end for end in ends if end))


def first_special(text: str, tokens: Collection[str]) -> str:
    """The special token that starts first in `text` (the longest of those), or ""."""
    at = [(text.index(token), -len(token), token) for token in tokens if token and token in text]
    return min(at)[2] if at else ""


def _standard(special: Mapping[str, str], tokens: Collection[str]) -> tuple[str, str]:
    if {"<start_of_turn>", "<end_of_turn>"} <= set(tokens):
        return GEMMA, "standard gemma"
    if {"<|im_start|>", "<|im_end|>"} <= set(tokens):
        return CHATML, "standard ChatML"
    if not special.get("eos_token"):
        raise BaseModelError(
            "the base has no chat template and no eos token, so nothing could end an answer",
            hint='set "eos_token" in its tokenizer_config.json, or choose another base',
        )
    return PLAIN.replace("with_bos", "true" if special.get("bos_token") else "false"), "standard plain"


def _takes_system(template: str, special: Mapping[str, str]) -> bool:
    turns = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _QUESTION}]
    try:
        return _SYSTEM in render(template, turns, special, generation=True)
    except TemplateRefusal:
        return False


@lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    # The same environment as transformers: sandboxed, since a template comes with the model and not from the person.
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **other: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **other)

    def now(form: str) -> str:
        return datetime.datetime.now().strftime(form)

    class Generation(Extension):
        # Training markers of newer templates; they render to what stands between them, and trim blanks as blocks do.
        tags = {"generation"}  # noqa: RUF012 (declared so by jinja2)

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = now
    return environment.from_string(template)
