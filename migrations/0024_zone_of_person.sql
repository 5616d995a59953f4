-- A zone that the person named when asked is another reason than one that the definition names.
-- Programs one version back read a reason that they do not know as none.
alter table task
    drop constraint task_zone_source,
    add constraint task_zone_source
        check (zone_source in ('task', 'agent', 'machine', 'configuration', 'person', 'not_needed'));
