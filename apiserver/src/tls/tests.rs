//! Who closes an idle connection first.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::rt::Sleep;

use super::*;

/// How long clients keep an idle connection.
const CLIENTS_KEEP: Duration = Duration::from_secs(90);

/// A clock on which that time has just passed, whenever one looks.
#[derive(Clone, Debug)]
struct Later;

struct Nap {
    over: bool,
}

impl Future for Nap {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Sleep for Nap {}

impl Timer for Later {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Nap { over: duration <= CLIENTS_KEEP })
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        // The clock ran on since the deadline was set.
        self.sleep(deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(1))
    }
}

#[tokio::test]
async fn an_idle_connection_outlives_the_patience_of_clients() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let service = hyper::service::service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
    });
    tokio::spawn(async move {
        let builder = protocols(Later);
        builder.serve_connection_with_upgrades(TokioIo::new(far), service).await.is_ok()
    });
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..2 {
        client.ready().await.unwrap();
        let request = Request::get("/").header("Host", "a").body(Empty::<Bytes>::new()).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        // The body has come in whole: the connection is idle.
        drop(http_body_util::BodyExt::collect(response.into_body()).await.unwrap());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}
