//! The readers of the group that are gone: each executor reads under a name of its own, and one that crashed leaves it.

use std::time::Duration;

use redis::{RedisError, aio::MultiplexedConnection};
use tracing::info;

use super::{GROUP, INBOUND};

/// A reader asks every other second; one that has not for so long, and has nothing in its hands, is gone.
pub(super) const GONE: Duration = Duration::from_hours(1);

/// Looks and removes in one step: to remove a reader is to lose the entries in its hands, so none may come in between.
/// One that was not gone after all is a member again with its next read.
const FORGET: &str = "
local gone = {}
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local reader = {}
    for n = 1, #fields, 2 do
        reader[fields[n]] = fields[n + 1]
    end
    if reader.name ~= ARGV[2] and reader.pending == 0 and reader.idle >= tonumber(ARGV[3]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], reader.name)
        gone[#gone + 1] = reader.name
    end
end
return gone
";

/// Takes readers out of the group that were idle for so long and hold nothing; `own` stays.
pub(super) async fn forget_gone(
    connection: &mut MultiplexedConnection,
    own: &str,
    idle: Duration,
) -> Result<(), RedisError> {
    let gone: Result<Vec<String>, RedisError> = redis::cmd("EVAL")
        .arg(FORGET)
        .arg(1)
        .arg(INBOUND)
        .arg(GROUP)
        .arg(own)
        .arg(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX))
        .query_async(connection)
        .await;
    match gone {
        Ok(gone) if gone.is_empty() => {}
        Ok(gone) => info!("took {} readers that are gone out of the group of {INBOUND}", gone.len()),
        // The group may be gone, or the operator may allow no scripts: a few names too many harm nobody.
        Err(error) if !error.is_io_error() => tracing::debug!("could not look for readers that are gone: {error}"),
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ordinaut_store::testing;
    use redis::streams::{StreamInfoConsumersReply, StreamReadReply};

    use super::*;

    async fn run(connection: &mut MultiplexedConnection, command: &str) -> redis::Value {
        let mut words = command.split(' ');
        let mut asked = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            asked.arg(word);
        });
        asked.query_async(connection).await.unwrap()
    }

    async fn readers(connection: &mut MultiplexedConnection) -> Vec<String> {
        let reply: StreamInfoConsumersReply =
            redis::cmd("XINFO").arg("CONSUMERS").arg(INBOUND).arg(GROUP).query_async(connection).await.unwrap();
        let mut names: Vec<_> = reply.consumers.into_iter().map(|reader| reader.name).collect();
        names.sort_unstable();
        names
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_leaves_the_group_unless_something_is_in_its_hands() {
        let client = redis::Client::open(testing::redis_url().await).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let own = "own";
        forget_gone(&mut connection, own, Duration::ZERO).await.unwrap();
        run(&mut connection, &format!("XGROUP CREATE {INBOUND} {GROUP} 0 MKSTREAM")).await;
        run(&mut connection, &format!("XADD {INBOUND} * topic a.b")).await;
        for reader in ["holding", "gone", own] {
            run(&mut connection, &format!("XREADGROUP GROUP {GROUP} {reader} STREAMS {INBOUND} >")).await;
        }
        // Redis 7.2 and later know a reader that read nothing; before, it has to be made.
        for reader in ["gone", own] {
            run(&mut connection, &format!("XGROUP CREATECONSUMER {INBOUND} {GROUP} {reader}")).await;
        }
        forget_gone(&mut connection, own, GONE).await.unwrap();
        assert_eq!(readers(&mut connection).await, ["gone", "holding", own]);

        forget_gone(&mut connection, own, Duration::ZERO).await.unwrap();
        assert_eq!(readers(&mut connection).await, ["holding", own]);
        let held: StreamReadReply = redis::cmd("XREADGROUP")
            .arg(&["GROUP", GROUP, "holding", "STREAMS", INBOUND, "0"])
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(held.keys[0].ids.len(), 1, "nothing was lost");
    }
}
