//! The byte copier: one connection to the origin for each client, and nothing read of what passes.

use std::io;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

/// Bytes held for each direction.
const BUFFER: usize = 16 << 10;

/// Copies until it is stopped.
///
/// # Errors
/// When connections cannot be accepted.
pub async fn serve(listener: TcpListener, upstream: SocketAddr) -> io::Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A broken connection concerns only its client, who notices.
            let _ = copy(client, upstream).await;
        });
    }
}

async fn copy(mut client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut origin = TcpStream::connect(upstream).await?;
    origin.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut origin, BUFFER, BUFFER).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn bytes_pass_both_ways_and_so_does_the_end() {
        let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = origin.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, upstream));
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut accepted, _) = origin.accept().await.unwrap();
        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = String::new();
        accepted.read_to_string(&mut asked).await.unwrap();
        accepted.write_all(b"answer").await.unwrap();
        drop(accepted);
        let mut answered = String::new();
        client.read_to_string(&mut answered).await.unwrap();
        assert_eq!((asked.as_str(), answered.as_str()), ("ask", "answer"));
    }
}
