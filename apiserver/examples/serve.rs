//! An API server alone, for trying things: `serve DIR [PORT]` writes `DIR/admin.kubeconfig`.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use apiserver::{Config, Server};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: serve DIR [PORT]")?);
    let port: u16 = arguments.next().map_or(Ok(0), |p| p.parse())?;
    let authority = pki::Authority::load_or_create(&dir)?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let address = listener.local_addr()?;
    let admin = authority.client("admin", &["system:masters"])?;
    let url = format!("https://{address}");
    let config = pki::kubeconfig("serve", &url, None, authority.ca_pem(), "admin", &admin);
    std::fs::write(dir.join("admin.kubeconfig"), config)?;
    let server = Server::start(Config {
        data_dir: dir,
        pki: authority.server_identity(&["localhost".into(), "127.0.0.1".into()])?,
        listeners: vec![listener],
        advertise: SocketAddr::from(([192, 168, 56, 70], address.port())),
        service_cidrs: vec!["10.96.0.0/12".parse()?],
        cluster_cidrs: vec!["10.244.0.0/16".parse()?],
        node_cidr_prefix: 24,
        node_cidr_prefix_v6: 64,
        node_ports: 30000..=32767,
        features: apiserver::Features::default(),
    })
    .await?;
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopper.cancel();
        }
    });
    server.serve(stop).await?;
    Ok(())
}
