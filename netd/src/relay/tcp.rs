//! Connections to a node port on loopback.
//!
//! Each is passed on by one task with two small buffers: it reads no faster than the other side
//! takes, and passes on the end of each direction by itself. A connection that can't be passed on
//! is reset, as the kernel would refuse it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Bytes of each direction that may be under way here.
const BUFFER: usize = 8 << 10;
/// How long to wait when the machine has no descriptors left.
const BREATH: Duration = Duration::from_millis(100);

/// Passes on every connection, for ever.
pub(super) async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    slots: Arc<Semaphore>,
    running: CancellationToken,
) {
    loop {
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(_) => {
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            reset(&client);
            continue;
        };
        let running = running.clone();
        tokio::spawn(async move {
            running.run_until_cancelled(pass_on(client, target)).await;
            drop(slot);
        });
    }
}

async fn pass_on(mut client: TcpStream, target: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(target).await else { return reset(&client) };
    // Small writes are passed on as they come.
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let copied = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await;
    if copied.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// What is closed from now on, is closed by a reset.
fn reset(stream: &TcpStream) {
    // It may be closed already.
    let _ = stream.set_zero_linger();
}
