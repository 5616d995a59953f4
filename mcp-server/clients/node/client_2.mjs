// `@modelcontextprotocol/client` 2.x, which tries 2026-07-28 first, over each of its transports.

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { goRoundWith, headers, overEach, program, url } from "./round.mjs";

const ways = {
  stdio: () => new StdioClientTransport({ command: program, args: ["stdio"], env: process.env, stderr: "inherit" }),
  http: () => new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit: { headers } }),
  sse: () => new SSEClientTransport(new URL(`${url}/sse`), { requestInit: { headers } }),
};
await overEach((transport) => {
  // The old pair of endpoints ends at 2025-11-25.
  const options = transport === "sse" ? {} : { versionNegotiation: { mode: "auto" } };
  return goRoundWith(new Client({ name: "ordinaut-clients", version: "1.0.0" }, options), ways[transport]());
});
