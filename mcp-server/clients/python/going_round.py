"""The round that every Python client goes through; `call` is how the client calls a tool.

The same round as ../node/round.mjs. A sentence that does not hold ends the program with that sentence.
"""

import asyncio
import os
import sys
import uuid

PATIENCE = 60
WORDS = {"id": "count", "uses": "data.transform", "with": {"input": {"words": ["a", "b"]}, "expr": "length(words)"}}


class Answer:
    """What a tool answered, whatever the client calls it."""

    def __init__(self, is_error, structured):
        self.is_error = bool(is_error)
        self.structured = structured or {}


def holds(sentence, is_so, seen):
    if not is_so:
        raise SystemExit(f"this does not hold: {sentence}; seen: {seen}")


async def go_round(names, call):
    wanted = {"create_task", "run_now", "get_run", "get_task", "cancel"}
    holds("the tools are listed", wanted <= set(names), sorted(names))

    title = f"Client {uuid.uuid4()}"
    definition = {"title": title, "schedule_kind": "manual", "pipeline": [{**WORDS, "uses": "no.action"}]}
    refused = await call("create_task", definition)
    faults = [fault.get("path") for fault in refused.structured.get("faults", [])]
    holds("a wrong definition is refused as an error of the tool", refused.is_error, refused.structured)
    holds("the refusal says where", faults == ["$.pipeline[0].uses"], refused.structured)

    async def must(tool, arguments):
        answer = await call(tool, arguments)
        holds(f"{tool} is done", not answer.is_error, answer.structured)
        return answer.structured

    await must("create_task", {**definition, "pipeline": [WORDS]})
    ran = await must("run_now", {"task": title, "wait": 30})
    holds("the run succeeds while it is waited for", ran["run"]["state"] == "succeeded", ran)
    read = await must("get_run", {"run": ran["run"]["id"], "step": "count"})
    holds("the step's output is read", [step["untrusted_output"] for step in read["steps"]] == [2], read)
    await must("cancel", {"task": title})
    task = await must("get_task", {"task": title})
    holds("the task is cancelled", task["task"]["state"] == "cancelled", task)


def server():
    """What a program is told: the MCP server's file, the address of the HTTP one and a token for that."""
    return os.environ["MCP_PROGRAM"], os.environ["MCP_URL"], {"Authorization": f"Bearer {os.environ['MCP_TOKEN']}"}


def main(transports):
    """Goes the round over each transport that the program's arguments name, one after the other."""

    async def rounds():
        for name in sys.argv[1:]:
            print(f"over {name}:", flush=True)
            await asyncio.wait_for(transports[name](), PATIENCE)

    asyncio.run(rounds())
