"""Runs templates of Go's text/template: with Go itself where it is on this machine, and with a small interpreter.

The interpreter knows what `ollama_template.go_template` writes and nothing else: variables of text, `range .Messages`,
`if eq A "text"` with `else if` and `else`, fields of the message, and texts. It fails on anything else.
"""

import json
import os
import re
import shutil
import subprocess

_ACTION = re.compile(r"\{\{(.*?)\}\}", re.S)
_PROGRAM = """package main

import (
	"encoding/json"
	"os"
	"text/template"
)

type Message struct{ Role, Content string }

func main() {
	var given struct {
		Template string
		Messages []Message
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	if err := template.Must(template.New("").Parse(given.Template)).Execute(os.Stdout, given); err != nil {
		panic(err)
	}
}
"""


def find_go():
    """The program `go`: on the path, or named by WERKMEISTER_GO."""
    return os.environ.get("WERKMEISTER_GO") or shutil.which("go")


def compiled(folder, go):
    """A program that runs a template: built once into `folder`."""
    (folder / "run.go").write_text(_PROGRAM)
    environment = os.environ | {"GOCACHE": str(folder / "cache"), "GOTOOLCHAIN": "local"}
    subprocess.run([go, "build", "-o", "run", "run.go"], cwd=folder, env=environment, check=True)
    return folder / "run"


def executed(program, template, messages):
    """What Go writes."""
    given = {"Template": template, "Messages": [{"Role": m["role"], "Content": m["content"]} for m in messages]}
    done = subprocess.run([program], input=json.dumps(given), capture_output=True, text=True, check=True)
    return done.stdout


def interpreted(template, messages):
    """What the small interpreter writes."""
    pieces = _ACTION.split(template)
    nodes = [(bool(number % 2), piece.strip() if number % 2 else piece) for number, piece in enumerate(pieces)]
    written, rest = _block(nodes, messages, {}, None)
    assert not rest, f"left over: {rest[0]}"
    return written


def _block(nodes, messages, variables, message, *, live=True):
    """Run nodes up to the `end` or `else` that closes this block; returns what was written and the nodes from there."""
    out = ""
    while nodes:
        is_action, text = nodes[0]
        if is_action and (text == "end" or text.startswith("else")):
            return out, nodes
        nodes = nodes[1:]
        if not is_action:
            out += text if live else ""
        elif text.startswith("if "):
            written, nodes = _choice(text[3:], nodes, messages, variables, message, live)
            out += written
        elif text == "range .Messages":
            body = nodes
            _, nodes = _block(body, messages, dict(variables), {"role": "", "content": ""}, live=False)
            for entry in messages if live else ():
                written, _ = _block(body, messages, variables, entry)
                out += written
            nodes = _closed(nodes)
        elif assigned := re.fullmatch(r"(\$\w+) :?= (.+)", text):
            if live:
                variables[assigned[1]] = _value(assigned[2], variables, message)
        elif live:
            out += _value(text, variables, message)
    return out, nodes


def _choice(condition, nodes, messages, variables, message, live):
    out, done = "", not live
    while True:
        holds = not done and (condition is None or _holds(condition, variables, message))
        written, nodes = _block(nodes, messages, variables, message, live=holds)
        out, done = out + written, done or holds
        text, nodes = nodes[0][1], nodes[1:]
        if text == "end":
            return out, nodes
        condition = text.removeprefix("else if ") if text.startswith("else if ") else None


def _closed(nodes):
    assert nodes[0] == (True, "end"), nodes[0]
    return nodes[1:]


def _holds(condition, variables, message):
    left, right = re.fullmatch(r"eq (\S+) (\".*\")", condition).groups()
    return _value(left, variables, message) == _value(right, variables, message)


def _value(text, variables, message):
    if text.startswith('"'):
        return json.loads(text)
    return variables[text] if text.startswith("$") else message[{".Role": "role", ".Content": "content"}[text]]
