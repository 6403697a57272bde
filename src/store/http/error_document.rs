//! What a store says in an error document, as far as it may be shown.

use super::xml::leaves;

/// What an error document says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ErrorDocument {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    /// The region where the bucket really is.
    pub(crate) region: Option<String>,
    /// What the code doesn't say, and the user wants to know.
    pub(crate) hint: Option<&'static str>,
}

impl ErrorDocument {
    /// Tells whether a "not found" says of what. Azure's `ResourceNotFound` doesn't.
    pub(crate) fn is_exact(&self) -> bool {
        self.code
            .as_deref()
            .is_some_and(|code| code != "ResourceNotFound")
    }
}

/// Reads an error document, as far as it is one.
pub(crate) fn error(document: &[u8]) -> ErrorDocument {
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(document) {
        // OCI registries write JSON.
        let text = |name: &str| json.pointer(&format!("/errors/0/{name}"))?.as_str();
        return ErrorDocument {
            code: text("code").and_then(code),
            message: text("message").and_then(message),
            ..ErrorDocument::default()
        };
    }
    let mut error = ErrorDocument::default();
    let mut details = None;
    leaves(document, &mut |path, text| match path {
        [.., "Code"] => error.code = error.code.take().or_else(|| code(&text)),
        [.., "Message"] => error.message = error.message.take().or_else(|| message(&text)),
        // Google's message is "Access denied."; who lacks which permission is told here.
        [.., "Details"] => details = message(&text),
        [.., "AuthenticationErrorDetail"] => error.hint = hint(&text),
        [.., "Region"] => error.region = error.region.take().or_else(|| code(&text)),
        _ => {}
    });
    error.message = details.or(error.message);
    error
}

/// Accepts what can be an error code or a region: one short word.
pub(crate) fn code(text: &str) -> Option<String> {
    let text = text.trim();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (!text.is_empty() && text.len() <= 64 && text.bytes().all(word)).then(|| text.into())
}

/// Puts into words what Azure says only in a detail, which is not shown: it holds what was signed.
fn hint(detail: &str) -> Option<&'static str> {
    let detail = detail.trim_start();
    if detail.starts_with("Request date header") {
        Some("this machine's clock is wrong")
    } else if detail.starts_with("Signature not valid in the specified time frame") {
        Some("the SAS is over, or not valid yet")
    } else {
        None
    }
}

/// Makes a message fit to be shown: one short line, without what might be a key or a signature.
pub(crate) fn message(text: &str) -> Option<String> {
    // Azure puts the request's id and time behind its message.
    let text = text.split("\nRequestId:").next()?;
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let shown: Vec<&str> = words
        .filter(|word| !word.is_empty())
        .map(|word| if secretive(word) { "…" } else { word })
        .collect();
    let shown: String = shown.join(" ").chars().take(200).collect();
    (!shown.is_empty()).then_some(shown)
}

/// Tells whether a word may hold an access key, a token or a signature: 16 letters and digits in
/// a row with both in it.
fn secretive(word: &str) -> bool {
    word.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '=' | '/'))
        .any(|run| {
            run.len() >= 16
                && (run.bytes().any(|byte| byte.is_ascii_digit())
                    || run.bytes().all(|byte| byte.is_ascii_uppercase()))
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{bytes, config};

    #[test]
    fn what_azure_says_in_a_detail_is_a_hint_and_the_detail_is_not_shown() {
        let error = error(
            b"<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the \
            request.\nRequestId:1\nTime:2</Message><AuthenticationErrorDetail>Signature not valid \
            in the specified time frame: Start [x]</AuthenticationErrorDetail></Error>",
        );
        let shown = "Server failed to authenticate the request.";
        assert_eq!(error.message.as_deref(), Some(shown));
        assert_eq!(error.hint, Some("the SAS is over, or not valid yet"));
        assert!(error.is_exact());
    }

    #[test]
    fn what_google_says_in_its_details_is_the_message() {
        let error = error(
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
        let error = error(
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
        assert_eq!(super::error(b"not xml at all"), ErrorDocument::default());
        assert_eq!(super::error(b"<Error><Code>a b</Code></Error>").code, None);
    }

    #[test]
    fn the_error_of_the_credentials_service_lies_one_deeper() {
        let error = error(
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
            let error = error(&document);
            let shown = [error.code, error.message, error.region].into_iter().flatten();
            for text in shown {
                prop_assert!(text.chars().count() <= 200 && !text.contains('\n'), "{:?}", text);
            }
        }
    }
}
