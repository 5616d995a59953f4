-- A line of the audit log names the HTTP request that it was written for: the `x-request-id` which the client was
-- answered with, and which the logs have. Null for what did not come over HTTP.
alter table audit_log add column http_request_id text;
