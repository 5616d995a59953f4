//! What a server writes, line by line, and never a line without end.
//!
//! The SDK drops a line that is too long and reads on: a server that floods would be read, and dropped, for ever. Nor
//! could an answer that was dropped ever come. So such a line is the end of the conversation, and with it of the server.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// Fails at the first line that is longer than `most` bytes.
#[derive(Debug)]
pub(super) struct Lines<R> {
    inner: R,
    most: usize,
    /// Of the line that is being read.
    length: usize,
}

impl<R> Lines<R> {
    pub(super) fn of(inner: R, most: usize) -> Self {
        Self { inner, most, length: 0 }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Lines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let read = &buffer.filled()[before..];
        let (first, rest) = match read.iter().position(|byte| *byte == b'\n') {
            Some(first) => (first, read.iter().rev().position(|byte| *byte == b'\n')),
            None => (read.len(), None),
        };
        let line = self.length + first;
        // What lies between two ends of lines in one read is shorter than a read.
        self.length = rest.unwrap_or(line);
        if line.max(self.length) > self.most {
            // An error comes with nothing read.
            buffer.set_filled(before);
            let message = format!("an MCP server wrote a message of more than {} bytes, and is ended", self.most);
            return Poll::Ready(Err(io::Error::other(message)));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn many_lines_are_read_and_one_that_does_not_end_is_an_error() {
        let read = async |text: &[u8]| {
            let mut all = Vec::new();
            Lines::of(text, 10_000).read_to_end(&mut all).await.map(|_| all.len())
        };
        let lines = [[b'x'; 999].as_slice(), b"\n"].concat().repeat(100);
        assert_eq!(read(&lines).await.unwrap(), 100_000);
        let flood = [lines.as_slice(), &vec![b'x'; 100_000]].concat();
        assert!(read(&flood).await.unwrap_err().to_string().contains("10000 bytes"));
    }
}
