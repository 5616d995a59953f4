// The round that every Node client goes through; `call` is how the client calls a tool.
// The same round as ../python/going_round.py. A sentence that does not hold ends the program with that sentence.

import { randomUUID } from "node:crypto";

const COUNT = { id: "count", uses: "data.transform", with: { input: { words: ["a", "b"] }, expr: "length(words)" } };

/** What a program is told: the MCP server's file, the address of the HTTP one and a token for that. */
export const program = process.env.MCP_PROGRAM;
export const url = process.env.MCP_URL;
export const headers = { Authorization: `Bearer ${process.env.MCP_TOKEN}` };

export function holds(sentence, isSo, seen) {
  if (!isSo) throw new Error(`this does not hold: ${sentence}; seen: ${JSON.stringify(seen)}`);
}

export async function goRound(names, call) {
  const wanted = ["create_task", "run_now", "get_run", "get_task", "cancel"];
  holds("the tools are listed", wanted.every((name) => names.includes(name)), names);

  const title = `Client ${randomUUID()}`;
  const definition = { title, schedule_kind: "manual", pipeline: [{ ...COUNT, uses: "no.action" }] };
  const refused = await call("create_task", definition);
  const faults = (refused.structuredContent?.faults ?? []).map((fault) => fault.path);
  holds("a wrong definition is refused as an error of the tool", refused.isError === true, refused);
  holds("the refusal says where", faults.join() === "$.pipeline[0].uses", refused);

  const must = async (tool, args) => {
    const answer = await call(tool, args);
    holds(`${tool} is done`, !answer.isError, answer);
    return answer.structuredContent;
  };

  await must("create_task", { ...definition, pipeline: [COUNT] });
  const ran = await must("run_now", { task: title, wait: 30 });
  holds("the run succeeds while it is waited for", ran.run.state === "succeeded", ran);
  const read = await must("get_run", { run: ran.run.id, step: "count" });
  holds("the step's output is read", read.steps.map((step) => step.untrusted_output).join() === "2", read);
  await must("cancel", { task: title });
  const task = await must("get_task", { task: title });
  holds("the task is cancelled", task.task.state === "cancelled", task);
}

/** Goes the round with a client of either SDK: their calls are the same. */
export async function goRoundWith(client, way) {
  await client.connect(way);
  const { tools } = await client.listTools();
  await goRound(tools.map((tool) => tool.name), (name, args) => client.callTool({ name, arguments: args }));
  await client.close();
}

/** Does `over` for each transport that the program's arguments name, all at once; says which one failed. */
export async function overEach(over) {
  const told = async (transport) => {
    try {
      await over(transport);
    } catch (error) {
      throw new Error(`over ${transport}: ${error.message}`, { cause: error });
    }
  };
  await Promise.all(process.argv.slice(2).map(told));
}
