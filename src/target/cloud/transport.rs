//! Why there was no reply: in words, and where it is TLS or the lack of it with what to do.

use std::error::Error;
use std::io;

use rustls::{CertificateError, Error as Tls, InvalidMessage};

use super::exchange::innermost;

/// Says why a request got no reply. `plain` says that it was sent without TLS.
pub(super) fn why(error: &(dyn Error + 'static), plain: bool) -> String {
    match tls(error).and_then(explained) {
        Some(explained) => explained.into(),
        None => {
            let why = innermost(error);
            if why == "tls handshake eof" {
                return format!("{why} (is http meant, or another port?)");
            }
            if why.contains("failed to lookup address") {
                return format!("{why} (is the host's name right, and is there a network?)");
            }
            // What a server makes of a request that should have been a handshake.
            let odd = ["invalid http", "connection closed before message completed"];
            match plain && odd.iter().any(|odd| why.contains(odd)) {
                true => format!("{why} (http is spoken to it: does it want https?)"),
                false => why,
            }
        }
    }
}

/// Tells whether the body of a refusal says that https should have been spoken.
pub(super) fn wants_https(body: &[u8]) -> bool {
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

fn explained(error: &Tls) -> Option<&'static str> {
    use CertificateError as Bad;
    match error {
        Tls::InvalidCertificate(Bad::UnknownIssuer) => Some(
            "its certificate is signed by nobody who is trusted here: add the authority to the \
             system's (update-ca-certificates), or name its file with SSL_CERT_FILE",
        ),
        Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => Some(
            "its certificate is another host's: correct the host, or have one made for this one",
        ),
        Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => Some(
            "its certificate is over: have it renewed, or, if this machine's clock is wrong, set it",
        ),
        Tls::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            Some("its certificate is not valid yet: is this machine's clock right?")
        }
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("no TLS is spoken there (is http meant, or another port?)")
        }
        _ => None,
    }
}
