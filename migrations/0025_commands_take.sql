-- What of a step each command of `shell.exec` takes, so that a definition that gives more is refused when it is kept.
-- Null where an executor one version back published it: then only the call knows.
alter table offered
    add column takes_args boolean,
    add column takes_stdin boolean;
