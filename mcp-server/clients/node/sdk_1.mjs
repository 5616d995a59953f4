// `@modelcontextprotocol/sdk` 1.x: its client over each of its transports.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { goRoundWith, headers, overEach, program, url } from "./round.mjs";

const ways = {
  stdio: () => new StdioClientTransport({ command: program, args: ["stdio"], env: process.env, stderr: "inherit" }),
  http: () => new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit: { headers } }),
  sse: () => new SSEClientTransport(new URL(`${url}/sse`), { requestInit: { headers } }),
};
await overEach((transport) => goRoundWith(new Client({ name: "ordinaut-clients", version: "1.0.0" }), ways[transport]()));
