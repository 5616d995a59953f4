//! What a restored dump brings of the cluster it was taken from: transaction ids, which mean nothing here.
//!
//! Events, and what inboxes show, are ordered and told apart by the transaction that wrote them. Written elsewhere,
//! its id may lie ahead of this cluster's counter: such an event would not be told, nor such a message be taken for
//! shown, until the counter has come so far, which may take years. A row that is visible and not below the counter can
//! only have come with a dump, so it is given this transaction's id. What has the same id is in order of the rows' own.

use sqlx::{Connection as _, PgConnection};

use crate::{StoreError, error::Doing as _};

/// Takes over what another cluster wrote. At every start of a program: where nothing was restored, it finds nothing.
pub(crate) async fn adopt_rows(connection: &mut PgConnection) -> Result<(), StoreError> {
    let mut tx = connection.begin().await.doing("begin to adopt restored rows")?;
    sqlx::query!("update outbox set xid = pg_current_xact_id() where xid >= pg_snapshot_xmax(pg_current_snapshot())")
        .execute(&mut *tx)
        .await
        .doing("adopt restored events")?;
    // A snapshot of another cluster is forgotten: a message is shown once more, rather than taken for shown.
    sqlx::query!(
        "
        update inbox
        set xid = least(xid, pg_current_xact_id()),
            shown_in = case when pg_snapshot_xmax(shown_in) <= pg_snapshot_xmax(pg_current_snapshot()) then shown_in end
        where xid >= pg_snapshot_xmax(pg_current_snapshot())
           or pg_snapshot_xmax(shown_in) > pg_snapshot_xmax(pg_current_snapshot())
        "
    )
    .execute(&mut *tx)
    .await
    .doing("adopt restored messages")?;
    sqlx::query!(
        "
        update problem
        set xid = least(xid, pg_current_xact_id()),
            shown_in = case when pg_snapshot_xmax(shown_in) <= pg_snapshot_xmax(pg_current_snapshot()) then shown_in end
        where xid >= pg_snapshot_xmax(pg_current_snapshot())
           or pg_snapshot_xmax(shown_in) > pg_snapshot_xmax(pg_current_snapshot())
        "
    )
    .execute(&mut *tx)
    .await
    .doing("adopt restored problems")?;
    tx.commit().await.doing("adopt restored rows")
}
