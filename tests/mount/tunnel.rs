//! https through a working proxy: a tunnel, with a check of the store's own certificate.

use std::net::{Ipv4Addr, SocketAddr};

use super::home::Home;
use super::program::{Ran, run};
use super::support::server::{Kind, Server};
use super::support::tls::{Certificates, Front};
use super::support::tunnel::Tunnel;

#[test]
fn https_goes_through_a_tunnel_of_the_proxy_and_the_stores_certificate_counts() {
    let (home, server) = (Home::new(), Server::shared(Kind::S3s));
    let certificates = Certificates::new();
    let tunnel = |certificate: &str| {
        let [certificate, key] = [certificate, "key.pem"].map(|name| certificates.path(name));
        let front = Front::start(server.addr(), &certificate, &key);
        let tunnel = Tunnel::start(SocketAddr::from((Ipv4Addr::LOCALHOST, front.port())));
        (front, tunnel)
    };
    let url = format!(
        "s3://{}/pre?use_path_style=true&endpoint=https://registry.example:9000",
        server.bucket()
    );
    let check = |variable: &str, tunnel: &Tunnel, authority: &str| -> Ran {
        let mut command = home.atlasfs(["check", "--write", "--timeout", "20s"]);
        let through = format!("http://me:s3cret@{}", tunnel.addr());
        run(command
            .args(["--registry", &url])
            .env(variable, through)
            .env("SSL_CERT_FILE", certificates.path(authority)))
    };
    let (_front, good) = tunnel("cert.pem");
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let ran = check(variable, &good, "ca.pem").ok();
        assert!(!(ran.text() + &ran.stderr).contains("s3cret"), "{ran}");
    }
    let asked = good.asked();
    assert!(asked.len() >= 3, "{asked:?}");
    for head in asked {
        let head = head.to_lowercase();
        assert!(head.starts_with("connect registry.example:9000 "), "{head}");
        assert!(
            head.contains("\r\nproxy-authorization: basic bwu6cznjcmv0\r\n"),
            "{head}"
        );
    }
    let (_front, bad) = tunnel("elsewhere.pem");
    for (tunnel, authority, part) in [
        (&good, "other.pem", "no issuer that this machine trusts"),
        (&bad, "ca.pem", "is for another host"),
    ] {
        let ran = check("HTTPS_PROXY", tunnel, authority);
        let said = ran.text() + &ran.stderr;
        assert_eq!(ran.code, Some(1), "{ran}");
        assert!(said.contains(part) && !said.contains("s3cret"), "{ran}");
    }
}
