// `mcp-remote`, as a desktop client starts it: a child on stdio that forwards over `http-only` or `sse-only`.
// The token is in the child's environment, and on the command line only its name.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { goRoundWith, headers, overEach, url } from "./round.mjs";

// Where it keeps sessions of its own, which nobody else should find.
const place = mkdtempSync(join(tmpdir(), "mcp-remote."));
const proxy = fileURLToPath(new URL("node_modules/mcp-remote/dist/proxy.js", import.meta.url));
const addresses = { "http-only": `${url}/mcp`, "sse-only": `${url}/sse` };

function started(transport) {
  return new StdioClientTransport({
    command: process.execPath,
    args: [proxy, addresses[transport], "--transport", transport, "--header", "Authorization:${AUTHORIZATION}"],
    env: { ...process.env, AUTHORIZATION: headers.Authorization, MCP_REMOTE_CONFIG_DIR: place },
    stderr: "inherit",
  });
}

try {
  await overEach((transport) =>
    goRoundWith(new Client({ name: "ordinaut-clients", version: "1.0.0" }), started(transport)));
} finally {
  rmSync(place, { recursive: true, force: true });
}
