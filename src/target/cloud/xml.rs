//! The XML of the stores: the listing, which keeps every key as it stands, and the error. S3 and
//! GCS write the same, Azure its own.

use std::time::{SystemTime, UNIX_EPOCH};

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

/// How deep elements may lie. A listing has three levels, and each costs time at every end.
const DEPTH: usize = 16;

/// One object of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) e_tag: Option<String>,
    /// GCS has one.
    pub(super) generation: Option<String>,
    pub(super) modified: Option<SystemTime>,
    /// The metadata that Azure shows in a listing, by its names.
    pub(super) metadata: Vec<(String, String)>,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    pub(super) prefixes: Vec<String>,
    /// What to ask the next page with.
    pub(super) next: Option<String>,
}

/// What an error document says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ErrorDocument {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    /// The region where the bucket really is.
    pub(super) region: Option<String>,
    /// What the code doesn't say, and the user wants to know.
    pub(super) hint: Option<&'static str>,
}

impl ErrorDocument {
    /// Tells whether a "not found" says of what. Azure's `ResourceNotFound` doesn't.
    pub(super) fn is_exact(&self) -> bool {
        self.code
            .as_deref()
            .is_some_and(|code| code != "ResourceNotFound")
    }
}

/// Reads a page of a listing; `None` if the document is another one, or cut off.
pub(super) fn page(document: &[u8]) -> Option<Page> {
    let mut page = Page::default();
    let mut object = Object::default();
    let (mut truncated, mut directory) = (true, false);
    let whole = leaves(document, &mut |path, text| match path {
        [_, "Contents", "Key"] => object.key = text,
        [_, "Contents", "Size"] => object.size = text.trim().parse().unwrap_or(0),
        [_, "Contents", "ETag"] => object.e_tag = Some(text),
        [_, "Contents", "LastModified"] => object.modified = time(&text),
        [_, "Contents", "Generation"] => object.generation = Some(text),
        [_, "Contents"] => page.objects.push(std::mem::take(&mut object)),
        [_, "Blobs", "Blob", "Name"] => object.key = text,
        [_, "Blobs", "Blob", "Properties", "Content-Length"] => {
            object.size = text.trim().parse().unwrap_or(0);
        }
        [_, "Blobs", "Blob", "Properties", "Etag"] => object.e_tag = Some(text),
        [_, "Blobs", "Blob", "Properties", "Last-Modified"] => object.modified = time(&text),
        [_, "Blobs", "Blob", "Properties", "ResourceType"] => directory = text == "directory",
        [_, "Blobs", "Blob", "Metadata", name] => object.metadata.push(((*name).into(), text)),
        [_, "Blobs", "Blob"] => {
            // Accounts with a hierarchy list their directories as if they were blobs.
            let object = std::mem::take(&mut object);
            if !std::mem::take(&mut directory) {
                page.objects.push(object);
            }
        }
        [_, "Blobs", "BlobPrefix", "Name"] => page.prefixes.push(text),
        [_, "CommonPrefixes", "Prefix"] => page.prefixes.push(text),
        [_, "NextContinuationToken" | "NextMarker"] => {
            page.next = Some(text).filter(|text| !text.is_empty())
        }
        [_, "IsTruncated"] => truncated = text.trim() != "false",
        _ => {}
    })?;
    page.next = page.next.filter(|_| truncated);
    matches!(&*whole, "ListBucketResult" | "EnumerationResults").then_some(page)
}

/// Credentials that STS has given.
pub(super) struct Given {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) token: String,
    pub(super) ends: SystemTime,
}

/// Reads STS's answer; `None` if it is another document, cut off, or holds what can't be part of a
/// request.
pub(super) fn credentials(document: &[u8]) -> Option<Given> {
    let (mut id, mut key, mut token, mut ends) = (None, None, None, None);
    leaves(document, &mut |path, text| match path {
        [_, _, "Credentials", "AccessKeyId"] => id = word(&text),
        [_, _, "Credentials", "SecretAccessKey"] => key = word(&text),
        [_, _, "Credentials", "SessionToken"] => token = word(&text),
        [_, _, "Credentials", "Expiration"] => ends = time(&text),
        _ => {}
    })?;
    Some(Given {
        id: id?,
        key: key?,
        token: token?,
        ends: ends?,
    })
}

/// Accepts what can be a key or a token.
fn word(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.into())
}

/// Reads an error document, as far as it is one.
pub(super) fn error(document: &[u8]) -> ErrorDocument {
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
pub(super) fn code(text: &str) -> Option<String> {
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
pub(super) fn message(text: &str) -> Option<String> {
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

fn time(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let time = chrono::DateTime::parse_from_rfc3339(text)
        .or_else(|_| chrono::DateTime::parse_from_rfc2822(text))
        .ok()?;
    Some(SystemTime::from(time).max(UNIX_EPOCH))
}

/// Calls `leaf` at the end of each element with the names from the root to it and its own text.
/// Returns the root's name, or `None` if the document is not whole.
fn leaves(document: &[u8], leaf: &mut dyn FnMut(&[&str], String)) -> Option<String> {
    let mut reader = Reader::from_reader(document);
    let mut names: Vec<String> = Vec::new();
    let mut text = String::new();
    loop {
        let mut end = |names: &[String], text: &mut String| {
            let path: Vec<&str> = names.iter().map(String::as_str).collect();
            leaf(&path, std::mem::take(text));
        };
        match reader.read_event().ok()? {
            Event::Start(_) | Event::Empty(_) if names.len() == DEPTH => return None,
            Event::Start(start) => {
                names.push(String::from_utf8_lossy(start.local_name().as_ref()).into_owned());
                text.clear();
            }
            Event::Empty(empty) => {
                names.push(String::from_utf8_lossy(empty.local_name().as_ref()).into_owned());
                text.clear();
                end(&names, &mut text);
                names.pop();
            }
            Event::End(_) => {
                end(&names, &mut text);
                let name = names.pop()?;
                if names.is_empty() {
                    return Some(name);
                }
            }
            Event::Text(more) => text.push_str(&String::from_utf8_lossy(&more)),
            Event::CData(more) => text.push_str(&String::from_utf8_lossy(&more)),
            Event::GeneralRef(reference) => entity(&reference, &mut text),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Eof => return None,
        }
    }
}

/// Adds the character that an entity stands for. One that stands for none (XML has no way to
/// write a NUL, and stores try) is kept as it is written: the key is foreign either way.
fn entity(reference: &BytesRef<'_>, text: &mut String) {
    let name = String::from_utf8_lossy(reference);
    match (reference.resolve_char_ref(), name.as_ref()) {
        (Ok(Some(character)), _) => text.push(character),
        (_, "amp") => text.push('&'),
        (_, "lt") => text.push('<'),
        (_, "gt") => text.push('>'),
        (_, "quot") => text.push('"'),
        (_, "apos") => text.push('\''),
        _ => {
            text.push('&');
            text.push_str(&name);
            text.push(';');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{bytes, config};

    #[test]
    fn a_listing_keeps_every_key_as_it_stands() {
        let document = br#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Name>b</Name><Prefix>app/</Prefix><IsTruncated>true</IsTruncated>
              <Contents><Key>app/../x</Key><Size>3</Size><ETag>&quot;a1&quot;</ETag>
                <LastModified>2024-09-10T17:37:44.000Z</LastModified>
                <Owner><ID>someone</ID></Owner></Contents>
              <Contents><Key>app//y &amp; &#x1;&#0; </Key><Size>0</Size></Contents>
              <Contents><Key/><Size>1</Size></Contents>
              <CommonPrefixes><Prefix>app/plans/</Prefix></CommonPrefixes>
              <NextContinuationToken>t&lt;1</NextContinuationToken>
            </ListBucketResult>"#;
        let page = page(document).unwrap();
        let keys: Vec<&str> = page.objects.iter().map(|object| &*object.key).collect();
        assert_eq!(keys, ["app/../x", "app//y & \u{1}&#0; ", ""]);
        assert_eq!(page.objects[0].size, 3);
        assert_eq!(page.objects[0].e_tag.as_deref(), Some("\"a1\""));
        assert!(page.objects[0].modified.is_some());
        assert_eq!(page.prefixes, ["app/plans/"]);
        assert_eq!(page.next.as_deref(), Some("t<1"));
    }

    #[test]
    fn azure_lists_in_its_own_words_and_directories_are_no_blobs() {
        let document = br#"<?xml version="1.0" encoding="utf-8"?>
            <EnumerationResults ServiceEndpoint="https://a.blob.core.windows.net/" ContainerName="c">
              <Prefix>app/</Prefix><Blobs>
              <Blob><Name>app/plans</Name><Properties><ResourceType>directory</ResourceType>
                <Content-Length>0</Content-Length></Properties></Blob>
              <Blob><Name>app/a &amp; b</Name><Properties>
                <Last-Modified>Tue, 10 Sep 2024 17:37:44 GMT</Last-Modified><Etag>0x8DC</Etag>
                <Content-Length>3</Content-Length></Properties>
                <Metadata><atlas_format>hcl</atlas_format><x/></Metadata></Blob>
              <Blob><Name>app/plain</Name><Metadata /></Blob>
              <BlobPrefix><Name>app/plans/</Name></BlobPrefix>
              </Blobs><NextMarker>2!76!x</NextMarker></EnumerationResults>"#;
        let page = page(document).unwrap();
        let [object, plain] = &page.objects[..] else {
            panic!("{page:?}");
        };
        let metadata = [("atlas_format", "hcl"), ("x", "")];
        let metadata = metadata.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(object.metadata, metadata);
        assert_eq!(plain.metadata, []);
        assert_eq!((&*object.key, object.size), ("app/a & b", 3));
        assert_eq!(object.e_tag.as_deref(), Some("0x8DC"));
        let when = object.modified.unwrap().duration_since(UNIX_EPOCH).unwrap();
        assert_eq!(when.as_secs(), 1_725_989_864);
        assert_eq!(page.prefixes, ["app/plans/"]);
        assert_eq!(page.next.as_deref(), Some("2!76!x"));
        let last = b"<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";
        assert_eq!(super::page(last).unwrap(), Page::default());
    }

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
    fn a_document_that_is_cut_off_or_another_one_is_no_listing() {
        let whole = "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>";
        assert!(page(whole.as_bytes()).is_some());
        for end in 0..whole.len() {
            assert_eq!(page(&whole.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(page(b"<html><body>log in</body></html>"), None);
        assert_eq!(page(b"<Error><Code>InternalError</Code></Error>"), None);
        assert_eq!(page(b"\xff\xfe{}"), None);
    }

    #[test]
    fn a_document_that_is_too_deep_is_none_and_takes_no_time() {
        let deep = |levels: usize| format!("<a>{}", "<b>".repeat(levels) + &"</b>".repeat(levels));
        // In the square of its length, this would take hours.
        let document = deep(1_000_000);
        assert_eq!(page(document.as_bytes()), None);
        assert_eq!(super::error(document.as_bytes()), ErrorDocument::default());
        let bomb = format!(
            "<!DOCTYPE a [<!ENTITY b \"{0}\">]><a>{0}</a>",
            "&b;".repeat(10_000)
        );
        assert_eq!(page(bomb.as_bytes()), None);
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn no_document_panics_or_shows_more_than_a_line(document in bytes(vec![
            b"<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated><Contents>\
              <Key>a&amp;b/&#x41;</Key><Size>3</Size><ETag>&quot;e&quot;</ETag><LastModified>\
              2024-09-10T17:37:44Z</LastModified></Contents><CommonPrefixes><Prefix>p/</Prefix>\
              </CommonPrefixes><NextContinuationToken>t</NextContinuationToken>\
              </ListBucketResult>".to_vec(),
            b"<Error><Code>NoSuchKey</Code><Message>no <![CDATA[such]]> key</Message><Region>\
              eu-west-1</Region><!-- --></Error>".to_vec(),
        ])) {
            let _ = (page(&document), credentials(&document));
            let error = super::error(&document);
            let shown = [error.code, error.message, error.region].into_iter().flatten();
            for text in shown {
                prop_assert!(text.chars().count() <= 200 && !text.contains('\n'), "{:?}", text);
            }
        }
    }

    #[test]
    fn the_credentials_of_a_role_are_read_whole_or_not_at_all() {
        let given = "<Credentials><AccessKeyId>id</AccessKeyId><SecretAccessKey>k/+</SecretAccessKey>\
            <SessionToken> t </SessionToken><Expiration>2024-09-10T17:37:44Z</Expiration></Credentials>";
        let document = format!(
            "<AssumeRoleResponse xmlns=\"x\"><AssumeRoleResult>{given}</AssumeRoleResult>\
            </AssumeRoleResponse>"
        );
        let read = credentials(document.as_bytes()).unwrap();
        assert_eq!((&*read.id, &*read.key, &*read.token), ("id", "k/+", "t"));
        for end in 0..document.len() {
            assert!(credentials(&document.as_bytes()[..end]).is_none(), "{end}");
        }
        for (good, bad) in [
            ("k/+", ""),
            ("k/+", "a\nb"),
            (" t ", "t t"),
            ("<AccessKeyId>id</AccessKeyId>", ""),
            ("2024-09-10T17:37:44Z", "soon"),
        ] {
            let document = document.replacen(good, bad, 1);
            assert!(credentials(document.as_bytes()).is_none(), "{document}");
        }
    }

    #[test]
    fn the_last_page_has_no_next_one() {
        let document = b"<ListBucketResult><IsTruncated>false</IsTruncated>\
            <NextContinuationToken>x</NextContinuationToken></ListBucketResult>";
        assert_eq!(page(document).unwrap().next, None);
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
}
