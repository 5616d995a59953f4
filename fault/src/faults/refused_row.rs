//! PostgreSQL refuses to write the end of one run, whatever is committed with it: that run fails alone, and the others of
//! its batch end as if it were not there.

use anyhow::anyhow;
use futures_util::future::try_join_all;

use super::{Outcome, Size, conclude};
use crate::{
    checker::{Finding, Wrong},
    client::Client,
    fleet,
    lab::Lab,
    workload,
};

/// The success of a run whose key says so is refused; its failure is not. Every second one by an error that might pass,
/// as when a row is on its way to a partition that is being attached, and does not.
const REFUSE: &str = "
create function witness.refuse() returns trigger
language plpgsql
as $$
begin
    if new.occurrence_key like '%-doubted-refused' then
        raise exception 'not now' using errcode = 'check_violation';
    end if;
    raise exception 'this one not' using errcode = 'untranslatable_character';
end $$;

create trigger witness_refuse before insert on run
for each row
when (new.state = 'succeeded' and new.occurrence_key like '%refused')
execute function witness.refuse();
";

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    lab.database.run_sql(REFUSE).await.map_err(|why| anyhow!("have rows refused: {why}"))?;
    let client = Client::open(&lab).await?;
    let task = workload::manual(&lab, &client, "asked").await?;
    // Planned before anybody works, so that they end together.
    let (many, refused) = size.pick((60, 3), (2_000, 20));
    for batch in (0..many).collect::<Vec<u32>>().chunks(8) {
        let every = many / refused;
        let end = |n: u32| match (n % every, n / every % 2) {
            (0, 0) => "refused",
            (0, _) => "doubted-refused",
            _ => "kept",
        };
        let requests: Vec<String> = batch.iter().map(|n| format!("{n}-{}", end(*n))).collect();
        try_join_all(requests.iter().map(|request| client.run_now(task, request))).await?;
    }
    drop(client);
    let executors = fleet::start(&lab, 1)?;
    lab.settle().await;
    let mut found = Vec::new();
    for (state, key, wanted) in [("failed", "%-refused", refused), ("succeeded", "%-kept", many - refused)] {
        let ended = lab
            .number(&format!("select count(*) from run where state = '{state}' and occurrence_key like '{key}'"))
            .await?;
        if ended != i64::from(wanted) {
            let what = format!("{ended} of {wanted} runs like {key} {state}");
            found.push(Finding { wrong: Wrong::Stuck, what });
        }
    }
    drop(executors);
    conclude(lab, found).await
}
