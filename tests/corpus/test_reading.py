import csv
import io
import json
import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from werkmeister.chat import Message
from werkmeister.corpus.findings import LISTED
from werkmeister.corpus.reading import read_source
from werkmeister.errors import DataError

# What a text file can hold: no NUL, no half surrogates; and a question says something.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: not text.isspace()
)
# Control characters make a short CSV file look binary.
CELL = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), min_size=1, max_size=30
).filter(lambda text: not text.isspace())
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8)


def written(folder, content: bytes | str, name: str = "examples"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def problems(path) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_source(path)
    return list(caught.value.problems)


def pairs_of(path):
    return [(example.question, example.target) for example in read_source(path).examples]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reading")


SHAPES = {
    "pair": lambda p, t: {"prompt": p, "completion": t},
    "question": lambda p, t: {"Question": p, "Answer": t},
    "alpaca": lambda p, t: {"instruction": p, "input": "", "output": t},
    "messages": lambda p, t: {"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": t}]},
    "sharegpt": lambda p, t: {"conversations": [{"from": "human", "value": p}, {"from": "gpt", "value": t}]},
    "conversational": lambda p, t: {
        "prompt": [{"role": "user", "content": p}],
        "completion": [{"role": "assistant", "content": t}],
    },
    "parts": lambda p, t: {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": p}]},
            {"role": "model", "content": t},
        ]
    },
}


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=25, deadline=None)
@given(pairs=PAIRS, layout=st.sampled_from(["lines", "list", "pretty list", "wrapped", "crlf", "bom"]))
def test_every_shape_comes_back_from_every_json_layout(folder, shape, pairs, layout):
    rows = [SHAPES[shape](*pair) for pair in pairs]
    texts = {
        "lines": "\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
        "crlf": "\r\n".join(json.dumps(row) for row in rows) + "\r\n",
        "bom": "\ufeff" + "\n\n".join(json.dumps(row) for row in rows),
        "list": json.dumps(rows, ensure_ascii=False),
        "pretty list": json.dumps(rows, indent=2),
        "wrapped": json.dumps({"version": 1, "data": rows}, indent=1),
    }
    assert pairs_of(written(folder, texts[layout])) == pairs


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_csv_and_its_kin_come_back_whatever_the_delimiter_and_line_end(folder, pairs, delimiter, end):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("question", "answer"), *pairs])
    assert pairs_of(written(folder, buffer.getvalue())) == pairs


@settings(max_examples=15, deadline=None)
@given(pairs=PAIRS)
def test_parquet_comes_back(folder, pairs):
    import pyarrow
    import pyarrow.parquet

    rows = [SHAPES["messages"](*pair) for pair in pairs]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "parquet")
    assert pairs_of(folder / "parquet") == pairs


@settings(max_examples=400, deadline=None)
@given(
    content=st.binary(max_size=200)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.text('{}[]",:\\ \n0a.-e', max_size=60).map(str.encode)
    | st.builds(
        lambda head, tail: head + tail,
        st.sampled_from([b"PAR1", b"prompt,completion\n", b'[{"prompt":']),
        st.binary(max_size=80),
    )
)
def test_any_bytes_are_read_or_refused_with_the_file_named(folder, content):
    path = written(folder, content, "any")
    try:
        assert read_source(path).examples
    except DataError as error:
        assert error.problems and all(problem.startswith(("any", "and ")) for problem in error.problems)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["user", "gpt", "train", "", " "]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "type", "text"]), inner, max_size=3)
    ),
    max_leaves=8,
)
COLUMNS = st.sampled_from(
    ["prompt", "completion", "messages", "conversations", "text", "label", "split", "part", "group", "system", "input"]
)


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(st.dictionaries(COLUMNS, JSON_VALUES, max_size=5), min_size=1, max_size=4))
def test_any_values_in_known_columns_are_read_whole_or_refused_with_the_line(folder, rows):
    path = written(folder, "".join(json.dumps(row) + "\n" for row in rows), "any")
    try:
        examples = read_source(path).examples
    except DataError as error:
        assert all(re.match(r"any:\d+: ", problem) for problem in error.problems)
    else:
        assert len(examples) == len(rows)
        assert all(e.prompt[-1].role == "user" and e.question.strip() and e.target.strip() for e in examples)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), shape=st.sampled_from(sorted(SHAPES)), delimiter=st.sampled_from(["", ",", "\t"]))
def test_a_damaged_byte_is_refused_or_changes_nothing_but_texts(folder, data, shape, delimiter):
    if delimiter:
        content = bytearray(delimiter.join(["prompt", "completion"]) + "\n" + f"ask{delimiter}tell\n" * 5, "utf-8")
    else:
        content = bytearray("".join(json.dumps(SHAPES[shape](f"ask {i}", "tell")) + "\n" for i in range(5)), "utf-8")
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        examples = read_source(written(folder, bytes(content), "any")).examples
    except DataError as error:
        assert error.problems
    else:
        # A quote or a line break of CSV can join or part rows without a trace; JSON cannot.
        assert delimiter or len(examples) == 5


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=2, max_size=6), cut=st.floats(0.05, 0.95), data=st.data())
def test_a_truncated_json_list_is_refused_and_never_shortened(folder, pairs, cut, data):
    text = json.dumps([SHAPES["pair"](*pair) for pair in pairs], indent=data.draw(st.sampled_from([None, 1])))
    found = problems(written(folder, text[: max(1, int(len(text) * cut))]))
    assert any("ends in the middle" in problem or "no example" in problem for problem in found)


def test_all_mistakes_of_a_file_are_told_at_once_with_line_and_field(tmp_path):
    content = b"\n".join(
        [
            b'{"prompt": "a", "completion": "b"}',
            b'{"prompt": "a", "prompt": "b", "completion": "c"}',
            b'{"prompt": "a"}',
            b'{"prompt": "", "completion": 5}',
            b'{"messages": [{"role": "user", "content": "x"}]}',
            b'{"prompt": "caf\xe9", "completion": "x"}',
            b"[1]",
            b'{"prompt": "a", "completion": {"b": 1}}',
            b'{"prompt": "a", "completion": "x", "split": "tran"}',
            b'{"prompt": "a\\u0000", "completion": "\\ud800"}',
            b'{"prompt": "a", "compl',
        ]
    )
    assert problems(written(tmp_path, content, "e.jsonl")) == [
        "e.jsonl:2: key 'prompt' stands twice in one object",
        "e.jsonl:3: completion is missing",
        "e.jsonl:4: prompt is empty",
        "e.jsonl:4: completion is a number, must be a text",
        "e.jsonl:5: is messages, and the file began as prompt + completion",
        "e.jsonl:6: is not UTF-8: byte 16 of the line is 0xe9",
        "e.jsonl:7: is no object with named fields, such as prompt and completion",
        "e.jsonl:8: completion is an object, must be a text; write it as JSON text",
        "e.jsonl:9: split is 'tran', must be one of train, valid, exam; did you mean 'train'?",
        "e.jsonl:10: prompt has a NUL character at character 2",
        "e.jsonl:10: completion has half a surrogate pair at character 1",
        "e.jsonl:11: ends in the middle of a JSON value (Unterminated string, character 17)",
    ]


def test_many_mistakes_are_counted_and_the_first_listed(tmp_path):
    found = problems(written(tmp_path, '{"prompt": "a", "completion": "b"}\n' + '{"prompt": "a"}\n' * 500))
    assert len(found) == LISTED + 1
    assert found[-1] == f"and {500 - LISTED} more"


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        (["user"], "ends without an answer"),
        (["assistant"], "messages[0] is of the assistant, must be of the user"),
        (["user", "assistant", "user"], "ends without an answer"),
        (["user", "user", "assistant"], "messages[1] is of the user, must be of the assistant"),
        (["user", "system", "assistant"], "messages[1] is of the system, must be of the assistant"),
        (["system"], "ends without an answer"),
        (["user", "tool"], "messages[1].role is 'tool'"),
    ],
)
def test_a_wrong_order_of_roles_is_named(tmp_path, turns, said):
    messages = [{"role": role, "content": "x"} for role in turns]
    (found,) = problems(written(tmp_path, json.dumps({"messages": messages})))
    assert said in found


def test_of_several_turns_the_last_answer_is_the_target(tmp_path):
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    (example,) = read_source(written(tmp_path, json.dumps(row))).examples
    assert example.prompt == tuple(Message(role, content) for role, content in turns[:-1])
    assert example.target == "d"


def test_optional_columns_are_kept_and_others_named(tmp_path):
    row = {"prompt": "a", "completion": "b", "system": "s", "split": "test", "part": "p", "label": 3, "group": "g"}
    source = read_source(written(tmp_path, json.dumps({**row, "id": 7}), "x"))
    (one,) = source.given
    assert one.split == "exam"
    assert one.example.prompt == (Message("system", "s"), Message("user", "a"))
    assert (one.example.part, one.example.label, one.example.group, one.example.source) == ("p", "3", "g", "x:1")
    assert source.unused == ("id",)


def test_alpaca_input_follows_the_instruction(tmp_path):
    path = written(tmp_path, '{"instruction": "Sum up.", "input": "Long text", "output": "Short"}')
    assert pairs_of(path) == [("Sum up.\n\nLong text", "Short")]


def test_a_class_label_is_the_target_of_a_text(tmp_path):
    (example,) = read_source(written(tmp_path, "text,category\nwhere is my card,card_arrival\n")).examples
    assert (example.question, example.target, example.label) == ("where is my card", "card_arrival", "card_arrival")


def test_lists_in_csv_cells_are_read_as_json(tmp_path):
    cell = json.dumps(SHAPES["messages"]("a", "b")["messages"]).replace('"', '""')
    assert pairs_of(written(tmp_path, f'messages,part\n"{cell}",x\n')) == [("a", "b")]


def test_lists_named_after_splits_give_their_rows_the_split(tmp_path):
    rows = {"train": [SHAPES["pair"]("a", "b")], "test": [SHAPES["pair"]("c", "d")]}
    source = read_source(written(tmp_path, json.dumps(rows)))
    assert [(one.example.question, one.split) for one in source.given] == [("a", "train"), ("c", "exam")]


def test_one_pretty_printed_chat_is_one_example_and_not_a_list_of_rows(tmp_path):
    assert pairs_of(written(tmp_path, json.dumps(SHAPES["messages"]("a", "b"), indent=2))) == [("a", "b")]


def test_a_list_of_objects_before_the_messages_does_not_make_lines_a_document(tmp_path):
    row = {"tools": [{"name": "f"}], **SHAPES["messages"]("a", "b")}
    assert pairs_of(written(tmp_path, json.dumps(row))) == [("a", "b")]
    assert pairs_of(written(tmp_path, f"{json.dumps(row)}\n{json.dumps(row)}\n")) == [("a", "b")] * 2


def test_blank_lines_before_the_column_names_do_no_harm(tmp_path):
    assert pairs_of(written(tmp_path, "\r\n\nquestion;answer\r\na;b\r\n;\r\n")) == [("a", "b")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n\n", "is empty"),
        (b"[]", "has no example"),
        (b'{"prompt": "x"\n', "e:1: ends in the middle of a JSON value (Expecting ',' delimiter, character 15)"),
        (b'{"prompt": x}\n', "e:1: is not valid JSON: Expecting value at character 12"),
        (b"prompt,completion\n", "has no example"),
        (bytes(range(256)) * 4, "is binary"),
        (b"PAR1 and nothing else", "damaged Parquet"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04", "zip file or a spreadsheet"),
        ('{"prompt": "a"}'.encode("utf-16"), "UTF-16"),
        (b"GGUF\x03\x00", "a model file"),
        (b"Once upon a time there was a file", "neither JSON nor a line of column names"),
        (b'{"a": 1, "b": 2}', "columns a, b fit no known shape"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"prompt": ' + b"[" * 100_000, "nested too deep"),
        (b'{"prompt": "a", "completion": "b"\0}', "NUL byte"),
        (b'[{"prompt": "a", "completion": "b\0"}]', "NUL byte"),
        (b'[{"prompt": "a", "completion": "\xff"}]', "not UTF-8: byte 33 of the line is 0xff"),
        (b'[\n{"prompt": "a", "completion": "b"},\n{"prompt" "a"}]', "e:3: is not valid JSON"),
        (b'[{"prompt": "a", "completion": "b"}] and more', "text after the end"),
        (b"prompt,completion,prompt\na,b,c\n", "column 'prompt' stands twice"),
        (b'prompt,completion\na,b\n"c,d\ne,f\n', "e:3: is not valid CSV: a quoted field is never closed"),
        (b"prompt,completion\na,b\nc,d,e\n", "e:3: has 3 fields, and the header has 2"),
        (b'prompt,completion\n"a\nb",\n', "e:2: completion is empty"),
        (b'prompt,completion\n"a\nb",c\nd,\n', "e:4: completion is empty"),
        (b'{"messages": "hello"}', "messages is a text, must be a list"),
        (b'{"messages": [{"content": "x"}]}', "messages[0] has neither role nor from"),
        (
            b'{"messages": [{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "x"}]}',
            "messages[0].content[0] is 'image', and only text parts can be learnt",
        ),
        (b'{"prompt": "a", "completion": "b", "n": ' + b"9" * 5000 + b"}", "is not valid JSON"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, content, said):
    found = problems(written(tmp_path, content, "e"))
    assert any(said in problem for problem in found), found


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "cannot be read" in problems(tmp_path / "none.jsonl")[0]
    assert "is a folder" in problems(tmp_path)[0]


def test_a_list_on_one_line_is_decoded_across_chunks(tmp_path):
    pairs = [(f"frage ä {i} " + "x" * (i % 700), f"antwort {i}") for i in range(9000)]
    path = written(tmp_path, json.dumps([SHAPES["pair"](*pair) for pair in pairs], ensure_ascii=False))
    assert path.stat().st_size > 3 << 20
    assert pairs_of(path) == pairs


@pytest.mark.parametrize("layout", ["lines", "list"])
def test_a_large_file_is_streamed_and_only_its_examples_are_held(tmp_path, layout):
    count = 20_000
    rows = [
        json.dumps({"prompt": f"question {i} " + "x" * 200, "completion": "y", "meta": "m" * 60}) for i in range(count)
    ]
    text = "\n".join(rows) if layout == "lines" else "[" + ",\n".join(rows) + "]"
    path = written(tmp_path, text)
    del rows, text
    tracemalloc.start()
    source = read_source(path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source.examples) == count
    assert held / count < 1200
    # Beside the examples: a few chunks and no second copy of the file.
    assert peak - held < 4 << 20 < path.stat().st_size
