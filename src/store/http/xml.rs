//! The XML of the stores: listings, which keep every key unchanged, and the answer of STS. S3 and
//! GCS share one format, Azure has its own.

use std::time::{SystemTime, UNIX_EPOCH};

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

/// The greatest depth of an element. A listing has three levels, and each level costs time at the
/// end of every element.
const MAX_DEPTH: usize = 16;

/// One object of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListedObject {
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) e_tag: Option<String>,
    /// Only GCS has it.
    pub(crate) generation: Option<String>,
    pub(crate) modified: Option<SystemTime>,
    /// The metadata in Azure's listings, by name.
    pub(crate) metadata: Vec<(String, String)>,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListPage {
    pub(crate) objects: Vec<ListedObject>,
    pub(crate) prefixes: Vec<String>,
    /// The token of the next page.
    pub(crate) next: Option<String>,
}

/// Reads a page of a listing; `None` if the document is not a listing, or was cut off.
pub(crate) fn page(document: &[u8]) -> Option<ListPage> {
    let mut page = ListPage::default();
    let mut object = ListedObject::default();
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
            // Accounts with a hierarchical namespace list directories like blobs.
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

/// Credentials from STS.
pub(crate) struct StsCredentials {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) token: String,
    pub(crate) ends: SystemTime,
}

/// Reads STS's answer; `None` if it is another document, was cut off, or holds characters that
/// can't be part of a request.
pub(crate) fn credentials(document: &[u8]) -> Option<StsCredentials> {
    let (mut id, mut key, mut token, mut ends) = (None, None, None, None);
    leaves(document, &mut |path, text| match path {
        [_, _, "Credentials", "AccessKeyId"] => id = word(&text),
        [_, _, "Credentials", "SecretAccessKey"] => key = word(&text),
        [_, _, "Credentials", "SessionToken"] => token = word(&text),
        [_, _, "Credentials", "Expiration"] => ends = time(&text),
        _ => {}
    })?;
    Some(StsCredentials {
        id: id?,
        key: key?,
        token: token?,
        ends: ends?,
    })
}

/// Accepts a key or a token.
fn word(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.into())
}

fn time(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let time = chrono::DateTime::parse_from_rfc3339(text)
        .or_else(|_| chrono::DateTime::parse_from_rfc2822(text))
        .ok()?;
    Some(SystemTime::from(time).max(UNIX_EPOCH))
}

/// Calls `leaf` at the end of each element with the names from the root to it and its own text.
/// Returns the root's name, or `None` if the document is incomplete.
pub(crate) fn leaves(document: &[u8], leaf: &mut dyn FnMut(&[&str], String)) -> Option<String> {
    let mut reader = Reader::from_reader(document);
    let mut names: Vec<String> = Vec::new();
    let mut text = String::new();
    loop {
        let mut end = |names: &[String], text: &mut String| {
            let path: Vec<&str> = names.iter().map(String::as_str).collect();
            leaf(&path, std::mem::take(text));
        };
        match reader.read_event().ok()? {
            Event::Start(_) | Event::Empty(_) if names.len() == MAX_DEPTH => return None,
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

/// Adds the character of an entity. An invalid entity stays as it is written: XML cannot express a
/// NUL, but some stores try, and such a key is foreign either way.
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
        assert_eq!(super::page(last).unwrap(), ListPage::default());
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
        // With quadratic time, this would take hours.
        let document = deep(1_000_000);
        assert_eq!(page(document.as_bytes()), None);
        assert_eq!(leaves(document.as_bytes(), &mut |_, _| {}), None);
        let bomb = format!(
            "<!DOCTYPE a [<!ENTITY b \"{0}\">]><a>{0}</a>",
            "&b;".repeat(10_000)
        );
        assert_eq!(page(bomb.as_bytes()), None);
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn no_document_panics(document in bytes(vec![
            b"<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated><Contents>\
              <Key>a&amp;b/&#x41;</Key><Size>3</Size><ETag>&quot;e&quot;</ETag><LastModified>\
              2024-09-10T17:37:44Z</LastModified></Contents><CommonPrefixes><Prefix>p/</Prefix>\
              </CommonPrefixes><NextContinuationToken>t</NextContinuationToken>\
              </ListBucketResult>".to_vec(),
        ])) {
            let _ = (page(&document), credentials(&document));
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
}
