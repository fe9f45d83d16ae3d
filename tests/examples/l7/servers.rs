//! The pod behind all proxies, and the other proxies.

use std::path::{Path, PathBuf};

use e2e::bed::{Bed, Host, NODE_1, POD_B, Process};
use e2e::run;

use crate::{BACKEND, PAGE, Subject};

const NGINX: [u16; 2] = [8081, 8444];
const HAPROXY: [u16; 2] = [8082, 8445];
/// Connections to the pod that a proxy may keep.
const KEPT: u32 = 128;

/// nginx in pod b, with one page.
pub(crate) fn start_backend(bed: &Bed) -> Process {
    let page = "x".repeat(PAGE);
    let server = format!("listen {POD_B}:{BACKEND}; location / {{ return 200 '{page}'; }}");
    let file = nginx_file(bed, "backend", 1, &format!("server {{ {server} }}"));
    start_nginx(&bed.pod_b, &file)
}

/// Those that are installed, on node 1.
pub(crate) fn start_others(bed: &Bed) -> Vec<Subject> {
    let there = |program: &str| run("which", &[program]).code == 0;
    let certificate = certificate(bed);
    let mut subjects = Vec::new();
    if there("nginx") {
        let at = |port: u16| format!("listen {NODE_1}:{port}");
        let http = format!(
            "upstream web {{ server {POD_B}:{BACKEND}; keepalive {KEPT}; }}\n\
             server {{ {}; {} ssl http2; ssl_certificate {2}; ssl_certificate_key {2};\n\
             location / {{ proxy_pass http://web; proxy_http_version 1.1;\n\
             proxy_set_header Connection ''; proxy_set_header Host $host;\n\
             proxy_set_header X-Forwarded-For $remote_addr; }} }}",
            at(NGINX[0]),
            at(NGINX[1]),
            certificate.display()
        );
        let file = nginx_file(bed, "proxy", 2, &http);
        let process = start_nginx(&bed.node_1, &file);
        subjects.push(Subject { name: "nginx", at: (NODE_1.to_owned(), NGINX), process });
    }
    if there("haproxy") {
        let file = bed.folder.path().join("haproxy.cfg");
        let text = format!(
            "global\n nbthread 2\ndefaults\n mode http\n timeout client 1m\n timeout server 1m\n \
             timeout connect 5s\n option forwardfor\n http-reuse always\n\
             frontend all\n bind {NODE_1}:{}\n bind {NODE_1}:{} ssl crt {} alpn h2,http/1.1\n \
             default_backend web\nbackend web\n server web {POD_B}:{BACKEND} pool-max-conn {KEPT}\n",
            HAPROXY[0],
            HAPROXY[1],
            certificate.display()
        );
        std::fs::write(&file, text).expect("a writable folder");
        let args = ["-db", "-f", &file.display().to_string()];
        let log = bed.folder.path().join("haproxy.log");
        let process = bed.node_1.start("haproxy".as_ref(), &args, &log);
        subjects.push(Subject { name: "haproxy", at: (NODE_1.to_owned(), HAPROXY), process });
    }
    subjects
}

fn nginx_file(bed: &Bed, name: &str, workers: u32, http: &str) -> PathBuf {
    let folder = bed.folder.path();
    let file = folder.join(format!("nginx-{name}.conf"));
    let bodies: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|part| format!("{part}_temp_path {}/{name}-{part};\n", folder.display()))
        .concat();
    let text = format!(
        "user root;\nworker_processes {workers};\npid {}/nginx-{name}.pid;\nerror_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 100000000;\n{bodies}{http}\n}}\n",
        folder.display()
    );
    std::fs::write(&file, text).expect("a writable folder");
    file
}

fn start_nginx(host: &Host, file: &Path) -> Process {
    let log = file.with_extension("log");
    let args = ["-g", "daemon off;", "-c", &file.display().to_string()];
    host.start("nginx".as_ref(), &args, &log)
}

/// Certificate and key in one file, of the kind that minictl makes for those who ask for no name.
fn certificate(bed: &Bed) -> PathBuf {
    let folder = bed.folder.path();
    let (key, chain) = (folder.join("key.pem"), folder.join("chain.pem"));
    let args = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=web \
         -keyout {} -out {}",
        key.display(),
        chain.display()
    );
    let _ = run("openssl", &args.split_whitespace().collect::<Vec<_>>()).ok();
    let both = [&chain, &key].map(|part| std::fs::read_to_string(part).expect("openssl wrote it"));
    let file = folder.join("both.pem");
    std::fs::write(&file, both.concat()).expect("a writable folder");
    file
}
