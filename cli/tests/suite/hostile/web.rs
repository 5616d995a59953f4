//! A web server that means harm: answers without end, answers that swell, answers that hardly come.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const TEN_GB: u64 = 10 * 1024 * 1024 * 1024;
const DRIP: Duration = Duration::from_millis(100);
/// Zeros, a thousand to one.
const BOMB: &[u8] = include_bytes!("../../../../executor/tests/fixtures/zeros.gz");

/// Serves on loopback until the test ends.
pub(crate) async fn open(nested: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let nested = nested.clone();
            // The victim hangs up, and that is the end of each.
            tokio::spawn(async move { drop(answer(stream, &nested).await) });
        }
    });
    address
}

async fn answer(mut stream: TcpStream, nested: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
    let block = vec![b'x'; 64 * 1024];
    match path {
        "/chunked" => {
            stream.write_all(format!("{ok}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await?;
            for _ in 0..TEN_GB / 65_536 {
                stream.write_all(b"10000\r\n").await?;
                stream.write_all(&block).await?;
                stream.write_all(b"\r\n").await?;
            }
        }
        "/length" => {
            stream.write_all(format!("{ok}Content-Length: {TEN_GB}\r\n\r\n").as_bytes()).await?;
            for _ in 0..TEN_GB / 65_536 {
                stream.write_all(&block).await?;
            }
        }
        // One chunk that does not end.
        "/extension" => {
            stream.write_all(format!("{ok}Transfer-Encoding: chunked\r\n\r\n1;").as_bytes()).await?;
            endless(&mut stream, &block).await?;
        }
        "/gzip" => whole(&mut stream, "Content-Encoding: gzip\r\n", BOMB).await?,
        "/nested" => whole(&mut stream, "Content-Encoding: gzip, gzip\r\n", nested).await?,
        "/drip" => {
            stream.write_all(format!("{ok}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await?;
            loop {
                stream.write_all(b"1\r\nx\r\n").await?;
                tokio::time::sleep(DRIP).await;
            }
        }
        "/drip-head" => {
            stream.write_all(ok.as_bytes()).await?;
            loop {
                stream.write_all(b"X").await?;
                tokio::time::sleep(DRIP).await;
            }
        }
        "/silent" => drop(stream.read(&mut [0]).await?),
        "/redirect" => {
            stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /redirect\r\nContent-Length: 0\r\n\r\n").await?;
        }
        "/headers" => {
            stream.write_all(ok.as_bytes()).await?;
            for n in 0_u64.. {
                stream.write_all(format!("X-{n}: {}\r\n", "x".repeat(1000)).as_bytes()).await?;
            }
        }
        "/header" => {
            stream.write_all(format!("{ok}X: ").as_bytes()).await?;
            endless(&mut stream, &block).await?;
        }
        "/deep" => whole(&mut stream, "Content-Type: application/json\r\n", "[".repeat(100_000).as_bytes()).await?,
        "/big" => whole(&mut stream, "", "x,".repeat(100_000).as_bytes()).await?,
        _ => {}
    }
    Ok(())
}

async fn whole(stream: &mut TcpStream, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}

async fn endless(stream: &mut TcpStream, block: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(block).await?;
    }
}
