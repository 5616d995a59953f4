//! A connection whose client takes what it is sent, or loses it.
//!
//! What a client does not read waits in this process, and so does whoever made it. The system takes what is written
//! as far as its buffers go; from the moment that it takes no more, the client has a bounded time to make room for all
//! of it. One byte a second buys no more.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A stream that fails when what is written is not taken within a time.
#[derive(Debug)]
pub(super) struct Taken<S> {
    stream: S,
    patience: Duration,
    /// Runs while something is not taken.
    overdue: Option<Pin<Box<Sleep>>>,
}

impl<S> Taken<S> {
    pub(super) fn within(patience: Duration, stream: S) -> Self {
        Self { stream, patience, overdue: None }
    }

    /// Whether the client's time is over.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Result<(), io::Error> {
        let is_over = self.overdue.as_mut().is_some_and(|overdue| overdue.as_mut().poll(cx).is_ready());
        if is_over {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take what it is sent"));
        }
        Ok(())
    }

    /// What the stream says to a write, and failure once it has said `Pending` for too long.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>>
    where
        S: Unpin,
    {
        self.poll_overdue(cx)?;
        let written = write(Pin::new(&mut self.stream), cx);
        if written.is_pending() && self.overdue.is_none() {
            self.overdue = Some(Box::pin(sleep(self.patience)));
            // Polled, so that it wakes whoever waits here.
            self.poll_overdue(cx)?;
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bounded(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bounded(cx, |stream, cx| stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked for when all was written: the client is quit of it.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.bounded(cx, AsyncWrite::poll_flush))?;
        self.overdue = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bounded(cx, AsyncWrite::poll_shutdown)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn who_reads_a_byte_at_a_time_is_let_go_and_who_takes_all_in_time_is_not() {
        let (near, mut client) = duplex(16);
        let mut connection = Taken::within(PATIENCE, near);
        for _ in 0..3 {
            let taking = async {
                tokio::time::sleep(PATIENCE * 2 / 3).await;
                client.read_exact(&mut [0; 64]).await.unwrap();
            };
            let sending = async {
                connection.write_all(&[b'x'; 64]).await.unwrap();
                connection.flush().await.unwrap();
            };
            tokio::join!(sending, taking);
        }
        let trickling = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                client.read_exact(&mut [0; 1]).await.unwrap();
            }
        };
        let error = tokio::select! {
            sent = connection.write_all(&[b'x'; 640]) => sent.unwrap_err(),
            () = trickling => unreachable!("it goes on for ever"),
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
