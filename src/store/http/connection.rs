//! The connection to a store: its proxies, and the reason for a failed connection.

use std::error::Error;
use std::{fmt, io};

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{ClientBuilder, NoProxy, Proxy};
use rustls::{CertificateError, Error as Tls};

/// The hosts that are never reached through a proxy: this machine, as in Go's clients and therefore
/// Atlas, and the addresses of the clouds' metadata services.
const DIRECT: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fe80::/10,fd00:ec2::/32";

/// A proxy as shown in messages: without its user and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProxyName {
    url: String,
    /// The variable that names the proxy.
    pub(crate) variable: &'static str,
}

impl ProxyName {
    /// Tells whether the connection to the proxy uses https.
    pub(crate) fn speaks_tls(&self) -> bool {
        self.url.starts_with("https:")
    }
}

impl fmt::Display for ProxyName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the proxy {} of {}", self.url, self.variable)
    }
}

/// The proxies that the environment names.
#[derive(Debug)]
pub(crate) struct Proxies {
    http: Option<(&'static str, String)>,
    https: Option<(&'static str, String)>,
    none: String,
    /// reqwest's own rules, which tell the proxy that it will choose.
    matcher: Matcher,
}

impl Proxies {
    /// Reads the environment. Of each variable the upper-case form comes first, as in curl and Go.
    ///
    /// # Errors
    ///
    /// The name of a variable with an invalid proxy, without its value, which may hold a password.
    pub(crate) fn find(env: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let set = |name: &&'static str| {
            let value = env(name).map(|value| value.trim().to_owned());
            let value = value.filter(|value| !value.is_empty())?;
            Some((*name, value))
        };
        let all = ["ALL_PROXY", "all_proxy"];
        let first = |names: [&'static str; 2]| names.iter().chain(&all).find_map(set);
        let http = first(["HTTP_PROXY", "http_proxy"]);
        let https = first(["HTTPS_PROXY", "https_proxy"]);
        for (name, value) in [&http, &https].into_iter().flatten() {
            let known = Matcher::builder().all(value.clone()).build();
            let taken = known.intercept(&"http://host/".parse().unwrap_or_default());
            if taken.is_none() || Proxy::all(value).is_err() {
                return Err(format!(
                    "{name} is not a valid proxy: write http://host:port or socks5://host:port, or unset it"
                ));
            }
        }
        let none = ["NO_PROXY", "no_proxy"].iter().find_map(set);
        let none = none.map_or_else(|| DIRECT.into(), |(_, value)| format!("{value},{DIRECT}"));
        let value = |of: &Option<(&str, String)>| of.clone().map_or(String::new(), |(_, v)| v);
        let matcher = Matcher::builder()
            .http(value(&http))
            .https(value(&https))
            .no(none.clone())
            .build();
        Ok(Self {
            http,
            https,
            none,
            matcher,
        })
    }

    /// Makes a client use the proxies.
    pub(crate) fn apply(&self, builder: ClientBuilder) -> reqwest::Result<ClientBuilder> {
        // reqwest's own reading of the environment would not apply `DIRECT`.
        let mut builder = builder.no_proxy();
        let except = || NoProxy::from_string(&self.none);
        if let Some((_, url)) = &self.http {
            builder = builder.proxy(Proxy::http(url)?.no_proxy(except()));
        }
        if let Some((_, url)) = &self.https {
            builder = builder.proxy(Proxy::https(url)?.no_proxy(except()));
        }
        Ok(builder)
    }

    /// Returns the proxy of a request to a URL.
    pub(crate) fn of(&self, url: &str) -> Option<ProxyName> {
        let taken = self.matcher.intercept(&url.parse().ok()?)?;
        let named = match url.starts_with("https:") {
            true => &self.https,
            false => &self.http,
        };
        let (variable, _) = named.as_ref()?;
        let url = taken.uri();
        Some(ProxyName {
            url: format!("{}://{}", url.scheme_str()?, url.authority()?),
            variable,
        })
    }
}

/// The path of a request.
pub(crate) struct ConnectionPath {
    /// Whether the request uses https.
    pub(crate) secure: bool,
    /// Host and port.
    pub(crate) peer: Option<String>,
    /// The proxy of the request.
    pub(crate) through: Option<ProxyName>,
}

impl ConnectionPath {
    /// Explains why no reply came, and what to do about it. `connecting` says that no connection
    /// was established.
    pub(crate) fn broken(
        &self,
        error: &(dyn Error + 'static),
        connecting: bool,
    ) -> (String, Option<String>) {
        let why = innermost(error);
        let peer = self.peer.as_deref().unwrap_or("the store");
        let is = |part: &str| why.contains(part);
        // Only the message depends on these texts, never the verdict. Through a tunnel the
        // certificate is the store's, but with an https proxy it may be the proxy's.
        let own = self.through.as_ref().is_some_and(ProxyName::speaks_tls);
        let fix = if let Some((why, fix)) = tls(error).and_then(explained).filter(|_| !own) {
            return (why.into(), Some(fix.into()));
        } else if let (Some(proxy), true) = (&self.through, connecting) {
            let variable = proxy.variable;
            Some(format!(
                "it goes through {proxy}: check that proxy, correct {variable}, or add the host to \
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
                "{peer} has no address: check the host's name and the network"
            ))
        } else {
            None
        };
        (why, fix)
    }
}

/// Tells whether the body of a refusal asks for https.
pub(crate) fn wants_https(body: &[u8]) -> bool {
    // The texts of Go's servers, nginx and Apache.
    let known = [
        "HTTP request to an HTTPS server",
        "plain HTTP request was sent to HTTPS port",
        "speaking plain HTTP to an SSL-enabled server port",
    ];
    let body = String::from_utf8_lossy(body);
    known.iter().any(|known| body.contains(known))
}

/// Finds the TLS error behind an error.
fn tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Tls> {
    let mut error = error;
    loop {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // The `source` of an `io::Error` skips the error inside it.
        let io = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        error = match io {
            Some(inner) => inner,
            None => error.source()?,
        };
    }
}

/// Explains a certificate error, and says what to do.
fn explained(error: &Tls) -> Option<(&'static str, &'static str)> {
    use CertificateError as Bad;
    match error {
        Tls::InvalidCertificate(Bad::UnknownIssuer) => Some((
            "its certificate has no issuer that this machine trusts",
            "add the authority to the system's certificates (update-ca-certificates), or name its \
             file with SSL_CERT_FILE",
        )),
        Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            Some((
                "its certificate is for another host",
                "correct the host, or get a certificate for this one",
            ))
        }
        Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => Some((
            "its certificate has expired",
            "renew it, or correct this machine's clock",
        )),
        Tls::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => Some((
            "its certificate is not valid yet",
            "is this machine's clock right?",
        )),
        _ => None,
    }
}

/// Returns the innermost cause of an error, without the outer layers and the URLs that they add.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let text: String = inner.to_string().chars().take(200).collect();
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::super::opening::env_of;
    use super::*;

    fn taken(pairs: &[(&str, &str)], url: &str) -> Option<String> {
        let proxies = Proxies::find(env_of(pairs)).unwrap();
        proxies.of(url).map(|shown| shown.to_string())
    }

    #[test]
    fn a_proxy_is_told_by_its_variable_and_without_its_password() {
        for (name, url) in [
            ("HTTP_PROXY", "http://store/"),
            ("http_proxy", "http://store/"),
            ("HTTPS_PROXY", "https://store/"),
            ("https_proxy", "https://store/"),
            ("ALL_PROXY", "http://store/"),
            ("all_proxy", "https://store/"),
        ] {
            for value in ["http://me:s3cret@proxy:3128", "me:s3cret@proxy:3128"] {
                let shown = format!("the proxy http://proxy:3128 of {name}");
                assert_eq!(taken(&[(name, value)], url), Some(shown));
            }
        }
    }

    #[test]
    fn each_scheme_has_its_own_proxy_and_all_is_for_what_has_none() {
        let pairs = [
            ("HTTP_PROXY", " "),
            ("http_proxy", "http://a"),
            ("ALL_PROXY", "socks5://b:1080"),
        ];
        let shown = taken(&pairs, "http://store/").unwrap();
        assert_eq!(shown, "the proxy http://a of http_proxy");
        let shown = taken(&pairs, "https://store/").unwrap();
        assert_eq!(shown, "the proxy socks5://b:1080 of ALL_PROXY");
        assert_eq!(taken(&[("HTTPS_PROXY", "a")], "http://store/"), None);
    }

    #[test]
    fn this_machine_and_what_gives_out_credentials_and_what_is_excepted_are_asked_directly() {
        for name in ["NO_PROXY", "no_proxy"] {
            let pairs = [
                ("ALL_PROXY", "http://proxy"),
                (name, "corp.example, 10.0.0.0/8"),
            ];
            for url in [
                "http://localhost:9000/b",
                "https://127.0.0.1/",
                "http://[::1]:1/",
                "http://169.254.169.254/latest",
                "http://169.254.170.2/c",
                "http://[fd00:ec2::23]/v1",
                "https://s3.corp.example/",
                "http://10.1.2.3/",
            ] {
                assert_eq!(taken(&pairs, url), None, "{url}");
            }
            assert!(taken(&pairs, "https://s3.eu-west-1.amazonaws.com/").is_some());
        }
        assert_eq!(
            taken(&[("ALL_PROXY", "a"), ("NO_PROXY", "*")], "http://store/"),
            None
        );
        assert_eq!(taken(&[], "http://store/"), None);
    }

    #[test]
    fn what_names_no_proxy_is_refused_by_the_variables_name_alone() {
        for value in [
            "http://",
            "ftp://me:s3cret@proxy",
            "http://me:s3cret@pro xy",
            "::s3cret",
        ] {
            let why = Proxies::find(env_of(&[("https_proxy", value)])).unwrap_err();
            assert!(why.starts_with("https_proxy is not a valid proxy"), "{why}");
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}
