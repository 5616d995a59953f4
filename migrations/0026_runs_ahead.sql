-- Runs that only compute may be claimed ahead of the permits: they wait for nobody, and what is claimed is started soon.
--
-- Programs one version back leave the column as it is: their runs wait for permits as before.
alter table due_work add column pure boolean not null default false;

-- For the claim, which goes ahead of its permits only while nothing else is pending. Empty in a queue of pure runs.
create index due_work_effects_idx on due_work (rank, run_id) where state = 'pending' and not pure;
