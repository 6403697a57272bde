//! Why there was no reply: in words, and where it is TLS or the lack of it with what to do.

use std::error::Error;
use std::io;

use rustls::{CertificateError, Error as Tls};

use super::middleware::innermost;
use super::proxy::Shown;

/// The way that a request takes.
pub(crate) struct Way {
    /// Whether it goes by https.
    pub(crate) secure: bool,
    /// Host and port.
    pub(crate) peer: Option<String>,
    /// The proxy that it goes through.
    pub(crate) through: Option<Shown>,
}

impl Way {
    /// Puts into words why no reply came, and what to do about it.
    /// `connecting` says that it was the connection that could not be made.
    pub(crate) fn broken(
        &self,
        error: &(dyn Error + 'static),
        connecting: bool,
    ) -> (String, Option<String>) {
        let why = innermost(error);
        let peer = self.peer.as_deref().unwrap_or("the store");
        let is = |part: &str| why.contains(part);
        // Only what is told depends on these texts, never the verdict.
        // Through a tunnel the certificate is the store's, but for a proxy that has one itself.
        let own = self.through.as_ref().is_some_and(Shown::speaks_tls);
        let fix = if let Some((why, fix)) = tls(error).and_then(explained).filter(|_| !own) {
            return (why.into(), Some(fix.into()));
        } else if let (Some(proxy), true) = (&self.through, connecting) {
            let variable = proxy.variable;
            Some(format!(
                "it goes through {proxy}: see to that proxy, correct {variable}, or add the host to \
                 NO_PROXY"
            ))
        } else if self.secure && (is("invalidcontenttype") || is("handshake eof")) {
            Some(format!(
                "{peer} does not speak https: is http meant, or another port?"
            ))
        } else if !self.secure
            && (is("invalid http") || is("connection closed before message completed"))
        {
            Some(format!(
                "{peer} does not speak http: is https meant, or another port?"
            ))
        } else if is("connection refused") {
            Some(format!(
                "nothing listens at {peer}: start the store, or correct the host and port"
            ))
        } else if is("lookup address") {
            Some(format!(
                "{peer} has no address: is the host's name right, and is there a network?"
            ))
        } else {
            None
        };
        (why, fix)
    }
}

/// Tells whether the body of a refusal says that https should have been spoken.
pub(crate) fn wants_https(body: &[u8]) -> bool {
    // Go's servers, nginx, Apache.
    let known = [
        "HTTP request to an HTTPS server",
        "plain HTTP request was sent to HTTPS port",
        "speaking plain HTTP to an SSL-enabled server port",
    ];
    let body = String::from_utf8_lossy(body);
    known.iter().any(|known| body.contains(known))
}

/// Finds TLS's own error in one that it has caused.
fn tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Tls> {
    let mut error = error;
    loop {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // An error of input and output doesn't count what it is made of among its sources.
        let io = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        error = match io {
            Some(inner) => inner,
            None => error.source()?,
        };
    }
}

/// Says what is wrong with a certificate, and what to do.
fn explained(error: &Tls) -> Option<(&'static str, &'static str)> {
    use CertificateError as Bad;
    match error {
        Tls::InvalidCertificate(Bad::UnknownIssuer) => Some((
            "its certificate is signed by nobody who is trusted here",
            "add the authority to the system's (update-ca-certificates), or name its file with \
             SSL_CERT_FILE",
        )),
        Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            Some((
                "its certificate is another host's",
                "correct the host, or have one made for this one",
            ))
        }
        Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => Some((
            "its certificate is over",
            "have it renewed, or, if this machine's clock is wrong, set it",
        )),
        Tls::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => Some((
            "its certificate is not valid yet",
            "is this machine's clock right?",
        )),
        _ => None,
    }
}
