//! Which replies are the success of a request: the statuses that each provider documents for it, and
//! no document where a success has none.
//!
//! Any other 2xx comes from a gateway, a proxy or a portal: the request may have been queued,
//! rewritten or never passed on, so its outcome is unknown.

use bytes::Bytes;
use object_store::client::{HttpError, HttpResponseBody};
use reqwest::{Method, StatusCode};

use super::error_document::{self, ErrorDocument};
use super::middleware::{ERROR_BYTES, End, bounded};
use super::permission::Provider;

/// A request, as far as its success depends on it.
pub(crate) struct Asked {
    pub(crate) provider: Provider,
    pub(crate) method: Method,
    /// Whether only a part of an object was asked for.
    pub(crate) ranged: bool,
}

/// Why a 2xx is no success, and the error document that came with it.
pub(crate) struct Unfit {
    pub(crate) why: String,
    pub(crate) error: ErrorDocument,
}

impl Asked {
    /// Judges a 2xx. A success comes back with its body.
    ///
    /// # Errors
    ///
    /// The body of a reply that has to be read was cut off.
    pub(crate) async fn judge(
        &self,
        status: StatusCode,
        body: HttpResponseBody,
    ) -> Result<Result<HttpResponseBody, Unfit>, HttpError> {
        let number = status.as_u16();
        if !self.is_success(number) {
            let why = format!("{number} is no success of a {}", self.method);
            let error = ErrorDocument::default();
            return Ok(Err(Unfit { why, error }));
        }
        if self.method != Method::PUT && self.method != Method::DELETE {
            return Ok(Ok(body));
        }
        let document = match bounded(body, ERROR_BYTES).await {
            (_, End::CutOff(error)) => return Err(error),
            (document, End::Whole | End::TooLong) => document,
        };
        Ok(match contradiction(&document) {
            None => Ok(Bytes::from(document).into()),
            Some((error, what)) => {
                let mut why = format!("{number} with {what}");
                let said = [error.code.as_deref(), error.message.as_deref()];
                for said in said.into_iter().flatten() {
                    why.push_str(": ");
                    why.push_str(said);
                }
                Err(Unfit { why, error })
            }
        })
    }

    fn is_success(&self, status: u16) -> bool {
        let statuses: &[u16] = match (self.method.as_str(), self.provider) {
            ("GET", _) if self.ranged => &[200, 206],
            ("GET" | "HEAD", _) => &[200],
            ("PUT", Provider::S3 | Provider::Gcs) => &[200],
            ("PUT", Provider::Azure | Provider::Oci) => &[201],
            ("DELETE", Provider::S3 | Provider::Gcs) => &[200, 204],
            // Azure itself says 202; servers that speak its protocol also say that it is done.
            ("DELETE", Provider::Azure | Provider::Oci) => &[200, 202, 204],
            // The start of an upload, and a request for a token: the request after it decides.
            _ => return true,
        };
        statuses.contains(&status)
    }
}

/// Finds out what the document of a reply that is said to be a success makes of it: `None` if it is
/// one all the same. S3 answers with a 200 before it knows how a request ends, and some gateways do
/// so always.
fn contradiction(document: &[u8]) -> Option<(ErrorDocument, &'static str)> {
    let text = String::from_utf8_lossy(document);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let start: String = text.chars().take(512).collect();
    let start = start.to_ascii_lowercase();
    if ["<!doctype", "<html", "<head", "<body"]
        .iter()
        .any(|tag| start.contains(tag))
    {
        return Some((ErrorDocument::default(), "a web page"));
    }
    let error = error_document::error(document);
    let is_error = error.code.is_some()
        || (start.starts_with('<') && start.contains("error"))
        || (start.starts_with('{') && start.contains("\"error"));
    is_error.then_some((error, "an error document"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Provider; 4] = [Provider::S3, Provider::Azure, Provider::Gcs, Provider::Oci];

    fn successes(provider: Provider, method: Method, ranged: bool) -> Vec<u16> {
        let asked = Asked {
            provider,
            method,
            ranged,
        };
        (200..300)
            .filter(|status| asked.is_success(*status))
            .collect()
    }

    #[test]
    fn each_provider_has_its_own_success_of_a_write() {
        let of = |method: &Method| ALL.map(|provider| successes(provider, method.clone(), false));
        let [s3, azure, gcs, oci] = of(&Method::PUT);
        assert_eq!((s3, azure), (vec![200], vec![201]));
        assert_eq!((gcs, oci), (vec![200], vec![201]));
        let [s3, azure, gcs, oci] = of(&Method::DELETE);
        assert_eq!((s3, azure), (vec![200, 204], vec![200, 202, 204]));
        assert_eq!((gcs, oci), (vec![200, 204], vec![200, 202, 204]));
    }

    #[test]
    fn a_part_is_the_success_only_of_a_request_for_a_part() {
        for provider in ALL {
            assert_eq!(successes(provider, Method::GET, false), [200]);
            assert_eq!(successes(provider, Method::GET, true), [200, 206]);
            assert_eq!(successes(provider, Method::HEAD, false), [200]);
        }
    }

    #[test]
    fn errors_and_web_pages_contradict_a_success() {
        for document in [
            "<Error><Code>InternalError</Code></Error>",
            "<?xml version=\"1.0\"?>\n<Error/>",
            "\u{feff}<html><body>Welcome</body></html>",
            "<!DOCTYPE html>\n<title>Sign in</title>",
            "\n\n<!-- proxy --><HTML>",
            "{\"errors\":[{\"code\":\"DENIED\"}]}",
            "{\"error\": \"queue full\"}",
        ] {
            assert!(contradiction(document.as_bytes()).is_some(), "{document}");
        }
        for document in ["", "OK", "\n", "{}", "<PutObjectResult/>", "\u{0}\u{1}"] {
            assert_eq!(contradiction(document.as_bytes()), None, "{document}");
        }
    }

    #[test]
    fn the_code_of_the_error_is_told() {
        let document = b"<Error><Code>SlowDown</Code><Message>wait</Message></Error>";
        let (error, what) = contradiction(document).unwrap();
        assert_eq!(error.code.as_deref(), Some("SlowDown"));
        assert_eq!(what, "an error document");
    }
}
