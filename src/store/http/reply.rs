//! The reply of a store: its status, its error document, and whether it means success for a
//! request.

use bytes::Bytes;
use futures::StreamExt;
use object_store::client::{HttpError, HttpResponseBody};
use reqwest::{Method, StatusCode};

use super::connection::ProxyName;
use super::xml::leaves;

/// The longest error document that is read.
pub(crate) const MAX_ERROR_BYTES: usize = 64 << 10;

/// The provider of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    S3,
    Azure,
    Gcs,
    Oci,
}

/// The parts of a reply that the verdict needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreReply {
    pub(crate) status: u16,
    pub(crate) error: ErrorDocument,
    /// Whether the store sent it, rather than the credentials service.
    pub(crate) from_store: bool,
    /// How far this machine's clock is ahead of the sender's, in seconds; negative if behind.
    pub(crate) ahead: Option<i64>,
    /// Whether it came by https.
    pub(crate) secure: bool,
    /// Whether it is a web page.
    pub(crate) is_page: bool,
    /// The reason why a 2xx is not a success of the request.
    pub(crate) unfit: Option<String>,
    /// The proxy that it came through.
    pub(crate) through: Option<ProxyName>,
}

/// The outcome of an operation's last request.
#[derive(Debug, Clone, Default)]
pub(crate) enum RequestOutcome {
    /// No request was sent.
    #[default]
    Unsent,
    /// A reply came.
    Reply(StoreReply),
    /// No reply came.
    Broken {
        /// The reason.
        why: String,
        /// The remedy, if it is known.
        fix: Option<String>,
    },
}

/// The content of an error document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ErrorDocument {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    /// The bucket's actual region.
    pub(crate) region: Option<String>,
    /// A reason that the code doesn't give.
    pub(crate) hint: Option<&'static str>,
}

impl ErrorDocument {
    /// Reads an error document; the fields that it lacks stay empty.
    pub(crate) fn parse(document: &[u8]) -> Self {
        if let Ok(json) = serde_json::from_slice::<serde_json::Value>(document) {
            // OCI registries write JSON.
            let text = |name: &str| json.pointer(&format!("/errors/0/{name}"))?.as_str();
            return Self {
                code: text("code").and_then(shown_word),
                message: text("message").and_then(shown_message),
                ..Self::default()
            };
        }
        let mut error = Self::default();
        let mut details = None;
        leaves(document, &mut |path, text| match path {
            [.., "Code"] => error.code = error.code.take().or_else(|| shown_word(&text)),
            [.., "Message"] => {
                error.message = error.message.take().or_else(|| shown_message(&text))
            }
            // Google's message is "Access denied."; only the details name user and permission.
            [.., "Details"] => details = shown_message(&text),
            [.., "AuthenticationErrorDetail"] => error.hint = hint(&text),
            [.., "Region"] => error.region = error.region.take().or_else(|| shown_word(&text)),
            _ => {}
        });
        error.message = details.or(error.message);
        error
    }

    /// Tells whether a "not found" names the missing thing. Azure's `ResourceNotFound` doesn't.
    pub(crate) fn is_exact(&self) -> bool {
        self.code
            .as_deref()
            .is_some_and(|code| code != "ResourceNotFound")
    }
}

/// Accepts an error code or a region: one short word.
pub(crate) fn shown_word(text: &str) -> Option<String> {
    let text = text.trim();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (!text.is_empty() && text.len() <= 64 && text.bytes().all(word)).then(|| text.into())
}

/// Explains Azure's detail, which is not shown because it holds the signed string.
fn hint(detail: &str) -> Option<&'static str> {
    let detail = detail.trim_start();
    if detail.starts_with("Request date header") {
        Some("this machine's clock is wrong")
    } else if detail.starts_with("Signature not valid in the specified time frame") {
        Some("the SAS has expired, or is not valid yet")
    } else {
        None
    }
}

/// Makes a message safe to show: one short line, without words that might be a key or a signature.
pub(crate) fn shown_message(text: &str) -> Option<String> {
    // Azure appends the request's id and time to its message.
    let text = text.split("\nRequestId:").next()?;
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let shown: Vec<&str> = words
        .filter(|word| !word.is_empty())
        .map(|word| if secretive(word) { "…" } else { word })
        .collect();
    let shown: String = shown.join(" ").chars().take(200).collect();
    (!shown.is_empty()).then_some(shown)
}

/// Tells whether a word may hold an access key, a token or a signature: a run of at least 16
/// characters with a digit in it, or of upper-case letters only.
fn secretive(word: &str) -> bool {
    word.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '=' | '/'))
        .any(|run| {
            run.len() >= 16
                && (run.bytes().any(|byte| byte.is_ascii_digit())
                    || run.bytes().all(|byte| byte.is_ascii_uppercase()))
        })
}

/// The parts of a request that its success depends on.
pub(crate) struct RequestKind {
    pub(crate) provider: Provider,
    pub(crate) method: Method,
    /// Whether the request asks for a part of an object only.
    pub(crate) ranged: bool,
}

/// The reason why a 2xx is not a success, and its error document.
pub(crate) struct FalseSuccess {
    pub(crate) why: String,
    pub(crate) error: ErrorDocument,
}

impl RequestKind {
    /// Judges a 2xx. A success comes back with its body.
    ///
    /// # Errors
    ///
    /// The body of a reply that has to be read was cut off.
    pub(crate) async fn judge(
        &self,
        status: StatusCode,
        body: HttpResponseBody,
    ) -> Result<Result<HttpResponseBody, FalseSuccess>, HttpError> {
        let number = status.as_u16();
        if !self.is_success(number) {
            let why = format!("{number} is not a success of {}", self.method);
            let error = ErrorDocument::default();
            return Ok(Err(FalseSuccess { why, error }));
        }
        if self.method != Method::PUT && self.method != Method::DELETE {
            return Ok(Ok(body));
        }
        let document = match bounded(body, MAX_ERROR_BYTES).await {
            (_, BodyEnd::CutOff(error)) => return Err(error),
            (document, BodyEnd::Whole | BodyEnd::TooLong) => document,
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
                Err(FalseSuccess { why, error })
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
            // Azure itself answers 202; compatible servers also answer 200 or 204.
            ("DELETE", Provider::Azure | Provider::Oci) => &[200, 202, 204],
            // The start of an upload, or a request for a token: the following request decides.
            _ => return true,
        };
        statuses.contains(&status)
    }
}

/// Looks for an error in the document of a 2xx; `None` if the reply is a success. S3 can answer 200
/// before it knows the result, and some gateways always do so.
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
    let error = ErrorDocument::parse(document);
    let is_error = error.code.is_some()
        || (start.starts_with('<') && start.contains("error"))
        || (start.starts_with('{') && start.contains("\"error"));
    is_error.then_some((error, "an error document"))
}

/// Where the reading of a body ended.
pub(crate) enum BodyEnd {
    Whole,
    TooLong,
    CutOff(HttpError),
}

/// Reads a body up to a limit.
pub(crate) async fn bounded(body: HttpResponseBody, bound: usize) -> (Vec<u8>, BodyEnd) {
    let mut stream = body.bytes_stream();
    let mut read = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => read.extend_from_slice(&chunk),
            Err(error) => return (read, BodyEnd::CutOff(error)),
        }
        if read.len() > bound {
            read.truncate(bound);
            return (read, BodyEnd::TooLong);
        }
    }
    (read, BodyEnd::Whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{bytes, config};

    #[test]
    fn what_azure_says_in_a_detail_is_a_hint_and_the_detail_is_not_shown() {
        let error = ErrorDocument::parse(
            b"<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the \
            request.\nRequestId:1\nTime:2</Message><AuthenticationErrorDetail>Signature not valid \
            in the specified time frame: Start [x]</AuthenticationErrorDetail></Error>",
        );
        let shown = "Server failed to authenticate the request.";
        assert_eq!(error.message.as_deref(), Some(shown));
        assert_eq!(error.hint, Some("the SAS has expired, or is not valid yet"));
        assert!(error.is_exact());
    }

    #[test]
    fn what_google_says_in_its_details_is_the_message() {
        let error = ErrorDocument::parse(
            b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code><Message>Access \
            denied.</Message><Details>a@p.iam.gserviceaccount.com does not have \
            storage.objects.list access to the Google Cloud Storage bucket.</Details></Error>",
        );
        let shown = error.message.unwrap();
        assert!(
            shown.starts_with("a@p.iam.gserviceaccount.com does not have storage.objects.list"),
            "{shown}"
        );
    }

    #[test]
    fn an_error_shows_its_code_and_message_and_never_a_key_or_signature() {
        let error = ErrorDocument::parse(
            b"<Error><Code>SignatureDoesNotMatch</Code><Message>The key AKIAIOSFODNN7EXAMPLE\n is \
            wrong: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY</Message>\
            <AWSAccessKeyId>AKIAIOSFODNN7EXAMPLE</AWSAccessKeyId>\
            <StringToSign>AWS4-HMAC-SHA256</StringToSign><Region>eu-west-1</Region></Error>",
        );
        assert_eq!(error.code.as_deref(), Some("SignatureDoesNotMatch"));
        assert_eq!(
            error.message.as_deref(),
            Some("The key \u{2026} is wrong: \u{2026}")
        );
        assert_eq!(error.region.as_deref(), Some("eu-west-1"));
        assert_eq!(
            ErrorDocument::parse(b"not xml at all"),
            ErrorDocument::default()
        );
        assert_eq!(
            ErrorDocument::parse(b"<Error><Code>a b</Code></Error>").code,
            None
        );
    }

    #[test]
    fn the_error_of_the_credentials_service_lies_one_deeper() {
        let error = ErrorDocument::parse(
            b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
            <Message>Not authorized</Message></Error></ErrorResponse>",
        );
        assert_eq!(error.code.as_deref(), Some("AccessDenied"));
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn no_document_panics_or_shows_more_than_a_line(document in bytes(vec![
            b"<Error><Code>NoSuchKey</Code><Message>no <![CDATA[such]]> key</Message><Region>\
              eu-west-1</Region><!-- --></Error>".to_vec(),
        ])) {
            let error = ErrorDocument::parse(&document);
            let shown = [error.code, error.message, error.region].into_iter().flatten();
            for text in shown {
                prop_assert!(text.chars().count() <= 200 && !text.contains('\n'), "{:?}", text);
            }
        }
    }

    const ALL: [Provider; 4] = [Provider::S3, Provider::Azure, Provider::Gcs, Provider::Oci];

    fn successes(provider: Provider, method: Method, ranged: bool) -> Vec<u16> {
        let asked = RequestKind {
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
