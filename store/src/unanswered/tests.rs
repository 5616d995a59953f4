//! That a question which is given up doubts the connections before its own one is let go.

use std::{convert::Infallible, future::pending};

use futures_util::poll;
use tokio::sync::mpsc;

use super::*;
use crate::testing::Fixture;

/// In the place of a connection: says, when it is let go, whether connections are doubted by then.
struct Connection {
    doubt: Doubt,
    seen: mpsc::Sender<bool>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.seen.try_send(self.doubt.stands());
    }
}

/// A connection of the store's, and what it will have seen.
fn connection(store: &Store) -> (Connection, mpsc::Receiver<bool>) {
    let (seen, answers) = mpsc::channel(1);
    (Connection { doubt: store.doubt.clone(), seen }, answers)
}

async fn no_answer(connection: Connection) -> Result<Infallible, StoreError> {
    let _held = connection;
    pending().await
}

#[tokio::test]
async fn a_connection_whose_question_ran_out_of_time_is_doubted_when_it_comes_back() {
    let (f, _database) = Fixture::fresh().await;
    let store = Store { deadline: Duration::ZERO, ..f.executor };
    let (connection, mut answers) = connection(&store);
    let answer = store.limited("ask", no_answer(connection)).await;
    assert!(matches!(answer, Err(StoreError::Unknown { .. })), "{answer:?}");
    assert_eq!(answers.try_recv(), Ok(true));
}

#[tokio::test]
async fn a_connection_whose_asker_went_away_is_doubted_when_it_comes_back() {
    let (f, _database) = Fixture::fresh().await;
    let (connection, mut answers) = connection(&f.executor);
    let mut asked = Box::pin(f.executor.limited("ask", no_answer(connection)));
    assert!(poll!(&mut asked).is_pending());
    drop(asked);
    assert_eq!(answers.try_recv(), Ok(true));
}

#[tokio::test]
async fn a_connection_whose_transaction_is_given_up_is_doubted_when_it_comes_back() {
    let (f, _database) = Fixture::fresh().await;
    let (seen, mut answers) = mpsc::channel(1);
    let doubt = f.executor.doubt.clone();
    // More waits than a `begin` has; the work waits for as many as there are.
    f.executor.cut.arm(1_000);
    let answer = f
        .executor
        .transaction("work", move |tx| async move {
            let _held = Connection { doubt, seen };
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            Ok(((), tx))
        })
        .await;
    assert!(matches!(answer, Err(StoreError::Unknown { .. })), "{answer:?}");
    assert_eq!(answers.try_recv(), Ok(true));
}
