//! The MCP server as a library, so that tests can drive its parts.
