-- A tool of an MCP server is what somebody accepted of it: what a server says of its tools is read by models, and may
-- change behind the operator's back.
--
-- `descriptor` and `sha256` are what is accepted: definitions are judged against it, models are shown it, calls are
-- compared with it. A tool is accepted as it is first seen. Whatever differs later waits in the `seen_` columns until a
-- person accepts it. Tools and servers that are gone stay, so that going and coming back accepts nothing.
alter table action_catalog
    add column accepted_at timestamptz not null default now(),
    -- `first use`, or who accepted it.
    add column accepted_by text not null default 'first use',
    -- What was seen last, where that is not what is accepted.
    add column seen_sha256 bytea,
    add column seen_descriptor jsonb,
    -- `ordinaut_schema::action::Change`: in what the two differ.
    add column change jsonb,
    -- The executor that reported last. While it lives, no other one takes its word back.
    add column seen_by uuid,
    add column gone_at timestamptz,
    add constraint action_catalog_seen_is_whole
        check (num_nonnulls(seen_sha256, seen_descriptor, change) in (0, 3));

update action_catalog set accepted_at = seen_at;

alter table mcp_server
    -- The operator believes what its tools say of themselves: that they only read, that a repeat does no harm.
    add column trusted boolean not null default false,
    add column gone_at timestamptz;

-- What nobody accepted yet never reaches a model: programs for models cannot read it.
revoke select on action_catalog from ordinaut_mcp;
grant select (name, shard, server, tool, descriptor, sha256, seen_at, accepted_at, accepted_by, change, gone_at)
    on action_catalog to ordinaut_mcp;
