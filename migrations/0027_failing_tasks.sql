-- Of the tasks whose runs end well, those few whose row of failures ends with it: they are looked for at every conclusion.
create index task_failing_idx on task (id) where failures_in_row > 0;
