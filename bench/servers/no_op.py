"""A server on the official Python SDK whose tools do nothing: what MCP itself costs there.

`no_op.py stdio`, or `no_op.py http PORT`. `list_tasks` answers a word; `run_now` tells a subscriber that a resource changed.
"""

import asyncio
import sys

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

OBJECT = {"type": "object"}


async def list_tools(ctx, params):
    return types.ListToolsResult(tools=[types.Tool(name=name, input_schema=OBJECT) for name in ("list_tasks", "run_now")])


async def call_tool(ctx, params):
    if params.name == "run_now":
        await ctx.session.send_resource_updated((params.arguments or {})["uri"])
    return types.CallToolResult(content=[types.TextContent(type="text", text="ok")])


async def subscribe(ctx, params):
    return types.EmptyResult()


server = Server("no-op", on_list_tools=list_tools, on_call_tool=call_tool, on_subscribe_resource=subscribe)


async def stdio():
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if sys.argv[1] == "stdio":
    asyncio.run(stdio())
else:
    import uvicorn

    # The others are measured meanwhile: an idle connection is kept.
    options = {"log_level": "error", "timeout_keep_alive": 600}
    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[2]), **options)
