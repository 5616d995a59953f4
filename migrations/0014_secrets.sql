-- Credentials that requests, servers and channels need, encrypted with a key that the database never sees.
--
-- Name and bindings are part of what the ciphertext is authenticated with: a row whose bindings are changed, or a
-- ciphertext that is moved to another row, does not open any more. Which key it was encrypted with is kept beside it,
-- so that another key can take over row by row.
create table secret (
    name text primary key
        constraint secret_name check (name ~ '^[A-Za-z_][A-Za-z0-9_]{0,63}$'),
    ciphertext bytea not null,
    nonce bytea not null
        constraint secret_nonce check (octet_length(nonce) = 12),
    key_id text not null,
    -- Where requests may carry it: `api.example.com`, `*.example.com:8443`.
    hosts text[] not null,
    -- MCP servers and channels whose configuration may name it.
    servers text[] not null,
    channels text[] not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint secret_is_bound check (cardinality(hosts) + cardinality(servers) + cardinality(channels) > 0)
);

grant select, insert, update, delete on secret to ordinaut_executor;
-- Enough to judge a definition; no ciphertext.
grant select (name, hosts) on secret to ordinaut_mcp;
