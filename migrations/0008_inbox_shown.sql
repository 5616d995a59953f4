-- What a listing of the inbox saw, kept on the last message that it showed.
--
-- Acknowledging "up to" a message must not reach one that was committed after the listing under an earlier id (ids are
-- drawn before the commit). Which were visible then is what the listing's snapshot knows.
alter table inbox add column shown_in pg_snapshot;
