// Runs the official suite against each server given, at each revision, and judges what it wrote.
// Usage: node run.mjs <the installed suite> <directory for results> plain=<url> fixtures=<url>
//
// Every check counts, also those that the suite does not score and those that are a SHOULD. What a server cannot
// pass is in skipped.json with the reason; an entry there that is not needed is a failure too.

import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const REVISIONS = ["2025-11-25", "2026-07-28"];
const PATIENCE = 10 * 60 * 1000;
const NOT_PASSED = ["FAILURE", "WARNING"];

const [suite, results, ...servers] = process.argv.slice(2);
const skipped = JSON.parse(readFileSync(new URL("skipped.json", import.meta.url), "utf8"));

/** Calls the suite's command line; its exit code is not what is judged. */
async function conformance(...words) {
  const limits = { timeout: PATIENCE, maxBuffer: 64 * 1024 * 1024 };
  const ended = promisify(execFile)(process.execPath, [join(suite, "dist/index.js"), ...words], limits);
  return (await ended.catch((failed) => failed)).stdout ?? "";
}

/** The scenarios that a revision has for servers: scored, then the others, which run too. */
async function scenarios(revision) {
  const told = await conformance("list", "--server", "--requirements", revision);
  const forServers = told.split("Client scenarios")[0];
  const scored = [...forServers.matchAll(/^ {2}- (\S+)/gm)].map((match) => match[1]);
  if (scored.length === 0) throw new Error(`the suite lists no scenarios for ${revision}:\n${told}`);
  return scored;
}

async function run(server, url, revision) {
  const directory = join(results, `${server}-${revision}`);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const told = await conformance("server", "--url", url, "--requirements", revision, "--output-dir", directory);
  writeFileSync(join(directory, "told.txt"), told);
  const checks = new Map();
  for (const name of readdirSync(directory)) {
    const scenario = name.match(/^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/)?.[1];
    if (scenario) checks.set(scenario, JSON.parse(readFileSync(join(directory, name, "checks.json"), "utf8")));
  }
  return { server, revision, scored: await scenarios(revision), checks };
}

/** What each scenario came to, what went wrong, and which entries of the list were needed. */
function judge({ server, revision, scored, checks }) {
  const listed = { ...skipped["every server"], ...skipped[server] };
  const cells = new Map();
  const wrong = [];
  const needed = new Set();
  let [passed, failed, left] = [0, 0, 0];
  for (const scenario of scored.filter((scenario) => !checks.has(scenario))) {
    wrong.push(`${scenario}: the suite wrote no result`);
  }
  for (const [scenario, all] of checks) {
    const good = all.filter((check) => check.status === "SUCCESS").length;
    const bad = all.filter((check) => NOT_PASSED.includes(check.status));
    const open = bad.filter(({ id, errorMessage }) => {
      // What is sent must be well formed, whatever else a scenario lacks.
      const entries = id === "wire-schema-valid" ? [`${scenario}:${id}`] : [scenario, `${scenario}:${id}`];
      const entry = entries.find((entry) => entry in listed);
      if (entry) needed.add(entry);
      else wrong.push(`${scenario}:${id}: ${errorMessage ?? "failed"}`);
      return !entry;
    }).length;
    passed += good;
    failed += open;
    left += bad.length - open;
    const text = [`${good}`, open && `${open} FAILED`, bad.length > open && `${bad.length - open} skipped`];
    cells.set(scenario, text.filter(Boolean).join(", ") + (scored.includes(scenario) ? "" : " *"));
  }
  return { server, revision, cells, wrong, needed, total: { scenarios: checks.size, passed, failed, left } };
}

/** No fixture may be in what people run. */
async function toolsOfPlain(url) {
  const version = "2026-07-28";
  const own = "io.modelcontextprotocol/";
  const meta = { [`${own}protocolVersion`]: version, [`${own}clientCapabilities`]: {} };
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list", params: { _meta: meta } });
  const headers = {
    "content-type": "application/json",
    accept: "application/json, text/event-stream",
    "mcp-protocol-version": version,
    "mcp-method": "tools/list",
  };
  const answer = await fetch(url, { method: "POST", headers, body, signal: AbortSignal.timeout(30_000) });
  const text = await answer.text();
  const names = [...text.matchAll(/"name":"([a-z0-9_]+)"/g)].map((match) => match[1]);
  const fixtures = names.filter((name) => name.startsWith("test_") || name.startsWith("json_schema"));
  if (!names.includes("create_task")) return [`plain: tools/list shows no tools: ${text.slice(0, 200)}`];
  return fixtures.map((name) => `plain: the fixture ${name} is in the build that people run`);
}

function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows) console.log(row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd());
}

const wrong = [];
const judged = [];
for (const [server, url] of servers.map((given) => given.split(/=(.*)/s))) {
  if (server === "plain") wrong.push(...(await toolsOfPlain(url)));
  for (const revision of REVISIONS) {
    console.error(`conformance: ${server} at ${revision}`);
    judged.push(judge(await run(server, url, revision)));
  }
}

const names = [...new Set(judged.flatMap(({ cells }) => [...cells.keys()]))];
const head = ["scenario: checks passed", ...judged.map(({ server, revision }) => `${server} ${revision}`)];
const rows = names.map((name) => [name, ...judged.map(({ cells }) => cells.get(name) ?? "")]);
const total = (what, of) => [what, ...judged.map(({ total }) => String(of(total)))];
table([
  head,
  ...rows,
  total("SCENARIOS", (it) => it.scenarios),
  total("CHECKS PASSED", (it) => it.passed),
  total("CHECKS FAILED", (it) => it.failed),
  total("CHECKS SKIPPED", (it) => it.left),
]);
console.log("* run, and not scored by the suite; skipped: mcp-server/conformance/skipped.json says why");

for (const { server, revision, wrong: found } of judged) {
  wrong.push(...found.map((what) => `${server} at ${revision}: ${what}`));
}
for (const [whose, entries] of Object.entries(skipped)) {
  const runs = judged.filter(({ server }) => whose === "every server" || whose === server);
  for (const entry of Object.keys(entries).filter((entry) => !runs.some(({ needed }) => needed.has(entry)))) {
    wrong.push(`skipped.json, ${whose}: ${entry} passes, or is not run any more; take it off the list`);
  }
}
for (const what of wrong) console.error(`conformance: ${what}`);
process.exitCode = wrong.length === 0 ? 0 : 1;
