// A server on the official TypeScript SDK whose tools do nothing: what MCP itself costs there.
//
// `no_op.mjs stdio`, or `no_op.mjs http PORT`. `list_tasks` answers a word; `run_now` tells a subscriber that a resource
// changed. The SDK is found beside the working directory, which is where it is installed.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { randomUUID } from "node:crypto";
import path from "node:path";

const require = createRequire(path.join(process.cwd(), "here.js"));
const sdk = (name) => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/${name}`)));
const { Server } = await sdk("server/index.js");
const { CallToolRequestSchema, ListToolsRequestSchema, SubscribeRequestSchema } = await sdk("types.js");

const make = () => {
    const capabilities = { tools: {}, resources: { subscribe: true } };
    const server = new Server({ name: "no-op", version: "1" }, { capabilities });
    const inputSchema = { type: "object" };
    server.setRequestHandler(ListToolsRequestSchema, () => ({
        tools: ["list_tasks", "run_now"].map((name) => ({ name, inputSchema })),
    }));
    server.setRequestHandler(SubscribeRequestSchema, () => ({}));
    server.setRequestHandler(CallToolRequestSchema, async ({ params }) => {
        if (params.name === "run_now") await server.sendResourceUpdated({ uri: params.arguments.uri });
        return { content: [{ type: "text", text: "ok" }] };
    });
    return server;
};

if (process.argv[2] === "stdio") {
    const { StdioServerTransport } = await sdk("server/stdio.js");
    await make().connect(new StdioServerTransport());
} else {
    const { StreamableHTTPServerTransport } = await sdk("server/streamableHttp.js");
    const sessions = new Map();
    // The others are measured meanwhile: an idle connection is kept.
    createServer({ keepAliveTimeout: 600_000 }, async (request, response) => {
        let transport = sessions.get(request.headers["mcp-session-id"]);
        if (!transport) {
            transport = new StreamableHTTPServerTransport({
                sessionIdGenerator: randomUUID,
                onsessioninitialized: (id) => sessions.set(id, transport),
            });
            await make().connect(transport);
        }
        await transport.handleRequest(request, response);
    }).listen(Number(process.argv[3]), "127.0.0.1");
}
