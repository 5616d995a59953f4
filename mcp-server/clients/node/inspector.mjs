// The inspector's command line: a process for each call, and `--strict` for the tools' schemas.

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { goRound, headers, holds, overEach, program, url } from "./round.mjs";

const place = mkdtempSync(join(tmpdir(), "mcp-inspector."));
const inspector = fileURLToPath(new URL("node_modules/.bin/mcp-inspector", import.meta.url));
const remote = (path, kind) => [`${url}/${path}`, "--transport", kind, "--header", `Authorization: ${headers.Authorization}`];
const targets = { stdio: [program, "stdio"], http: remote("mcp", "http"), sse: remote("sse", "sse") };
// A child on stdio gets what `-e` names.
const passed = Object.keys(process.env).filter((name) => name.startsWith("ORDINAUT_"));
const environment = { stdio: passed.flatMap((name) => ["-e", `${name}=${process.env[name]}`]) };

async function ask(transport, ...words) {
  const limits = { timeout: 60_000, maxBuffer: 16 * 1024 * 1024, env: { ...process.env, HOME: place } };
  const all = [inspector, "--cli", ...targets[transport], ...(environment[transport] ?? []), "--format", "json", ...words];
  return promisify(execFile)(process.execPath, all, limits).catch((failed) => failed);
}

/** The result in what it printed, whatever its exit code: a refusal is an answer too. */
function told(answer) {
  holds("the inspector prints an answer", answer.stdout?.includes("{"), { told: answer.stdout, said: answer.stderr });
  const printed = JSON.parse(answer.stdout);
  return printed.result ?? printed;
}

try {
  await overEach(async (transport) => {
    const listed = await ask(transport, "--method", "tools/list", "--strict");
    holds("the schemas pass --strict", !listed.code, { code: listed.code, said: listed.stderr });
    const names = told(listed).tools.map((tool) => tool.name);
    await goRound(names, async (name, args) =>
      told(await ask(transport, "--method", "tools/call", "--tool-name", name, "--tool-args-json", JSON.stringify(args))));
  });
} finally {
  rmSync(place, { recursive: true, force: true });
}
