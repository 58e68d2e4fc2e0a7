"""LangChain and LlamaIndex against a gateway; run by test_clients in a Python that has them.

    python other_clients.py langchain|llama_index http://127.0.0.1:PORT/v1

The gateway answers "who?" with TEXT, and "weather?" with a call of the function "weather". Needs nothing of ours.
"""

import json
import sys

TEXT = "The smith, of course."
WEATHER = {
    "name": "weather",
    "description": "The weather of a town",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}
FORM = {"title": "switch", "type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}


def langchain(url: str) -> None:
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=url, api_key="none", model="smith", max_retries=0, timeout=30, seed=1)
    answer = model.invoke("who?")
    assert answer.content == TEXT and answer.usage_metadata["output_tokens"] == 7
    assert answer.response_metadata["finish_reason"] == "stop"
    pieces = list(model.stream("who?"))
    assert "".join(piece.content for piece in pieces) == TEXT and len([p for p in pieces if p.content]) > 1
    assert [one.content for one in model.batch(["who?", "who?"])] == [TEXT, TEXT]
    history = [SystemMessage("Be kind."), HumanMessage("a"), AIMessage("b"), HumanMessage("who?")]
    assert model.invoke(history).content == TEXT
    told = model.bind(logprobs=True, top_logprobs=1).invoke("who?").response_metadata["logprobs"]["content"]
    assert "".join(one["token"] for one in told) == TEXT
    assert model.bind(stop=[" of"]).invoke("who?").content == "The smith,"
    assert model.with_structured_output(FORM, method="json_schema").invoke("switch") == {"on": True}
    tooled = model.bind_tools([{"type": "function", "function": WEATHER}])
    call = tooled.invoke("weather?")
    assert [(one["name"], one["args"]) for one in call.tool_calls] == [("weather", {"town": "Ulm"})]
    streamed = None
    for piece in tooled.stream("weather?"):
        streamed = piece if streamed is None else streamed + piece
    assert [(one["name"], one["args"]) for one in streamed.tool_calls] == [("weather", {"town": "Ulm"})]
    result = ToolMessage("rain", tool_call_id=call.tool_calls[0]["id"])
    assert tooled.invoke([HumanMessage("weather?"), call, result]).content == "It rains."


def llama_index(url: str) -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai_like import OpenAILike

    options = {"api_base": url, "api_key": "none", "model": "smith", "max_retries": 0, "timeout": 30.0}
    model = OpenAILike(**options, is_chat_model=True)
    turns = [ChatMessage(role="system", content="Be kind."), ChatMessage(role="user", content="who?")]
    assert model.chat(turns).message.content == TEXT
    pieces = list(model.stream_chat(turns))
    assert pieces[-1].message.content == TEXT and len(pieces) > 1
    assert "".join(piece.delta or "" for piece in pieces) == TEXT
    assert model.complete("who?").text == TEXT
    bare = OpenAILike(**options, is_chat_model=False)
    assert bare.complete("who?").text == TEXT
    assert list(bare.stream_complete("who?"))[-1].text == TEXT
    tool = {"type": "function", "function": WEATHER}
    call = OpenAILike(**options, is_chat_model=True, is_function_calling_model=True).chat(
        [ChatMessage(role="user", content="weather?")], tools=[tool]
    )
    (found,) = call.message.additional_kwargs["tool_calls"]
    assert found.function.name == "weather" and json.loads(found.function.arguments) == {"town": "Ulm"}


if __name__ == "__main__":
    {"langchain": langchain, "llama_index": llama_index}[sys.argv[1]](sys.argv[2])
    print("held")
