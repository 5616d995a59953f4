-- When the person was told of an approval through the channel that its request names: told once, whichever executor
-- asks again; null where nobody was told yet, or no channel is named.
alter table approval add column told_at timestamptz;
