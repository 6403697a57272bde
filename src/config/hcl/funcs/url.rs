//! Functions on URLs: they split and join URLs as Go does.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::super::url::decode;
use super::super::value::Value;
use super::call::{Answer, Call, Definition, FunctionError};

pub(super) fn find(name: &str) -> Option<Definition> {
    Some(match name {
        "urlescape" => (1..=1, |call| Ok(query_escaped(&call.text(0)?).into())),
        "urlqueryset" => (3..=3, urlqueryset),
        "urlsetpath" => (2..=2, |call| {
            let text = call.text(0)?;
            let mut url = Url::split(&text)?;
            let path = escaped(&call.text(1)?, "$&+,/:;=@");
            url.path = match url.authority.is_some() && !path.starts_with('/') && !path.is_empty() {
                true => format!("/{path}"),
                false => path,
            };
            Ok(url.join().into())
        }),
        "urluserinfo" => (2..=3, |call| {
            let text = call.text(0)?;
            let mut url = Url::split(&text)?;
            let user = escaped(&call.text(1)?, "$&+,;=");
            let info = match call.args.get(2) {
                None | Some(Value::Null) => user,
                Some(_) => format!("{user}:{}", escaped(&call.text(2)?, "$&+,;=")),
            };
            let host = url.authority.unwrap_or_default();
            let host = host
                .rsplit_once('@')
                .map_or(host.as_str(), |(_, host)| host);
            url.authority = Some(format!("{info}@{host}"));
            Ok(url.join().into())
        }),
        _ => return None,
    })
}

/// Sets one parameter. As in Go, all parameters come out sorted and escaped.
fn urlqueryset(call: &Call<'_>) -> Answer {
    let text = call.text(0)?;
    let mut url = Url::split(&text)?;
    let mut pairs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in url
        .query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str| decode(&text.replace('+', " "));
        // Go drops malformed pairs.
        if let (Some(key), Some(value)) = (decoded(key), decoded(value)) {
            pairs.entry(key).or_default().push(value);
        }
    }
    pairs.insert(call.text(1)?, vec![call.text(2)?]);
    let mut query = Vec::new();
    for (key, values) in &pairs {
        for value in values {
            query.push(format!("{}={}", query_escaped(key), query_escaped(value)));
        }
    }
    url.query = Some(query.join("&"));
    Ok(url.join().into())
}

struct Url {
    scheme: String,
    authority: Option<String>,
    path: String,
    query: Option<String>,
    fragment: Option<String>,
}

impl Url {
    fn split(text: &str) -> Result<Self, FunctionError> {
        if text.chars().any(char::is_control) {
            return Err("argument 1 is not a URL: it has control characters".into());
        }
        let (rest, fragment) = cut(text, '#');
        let (rest, query) = cut(rest, '?');
        let is_scheme = |scheme: &&str| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        };
        let (scheme, rest) = match rest.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) {
            Some((scheme, rest)) => (format!("{}:", scheme.to_ascii_lowercase()), rest),
            None => (String::new(), rest),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let at = rest.find('/').unwrap_or(rest.len());
                let (authority, path) = rest.split_at_checked(at).unwrap_or((rest, ""));
                (Some(authority.to_string()), path)
            }
            None => (None, rest),
        };
        Ok(Self {
            scheme,
            authority,
            path: path.into(),
            query: query.map(Into::into),
            fragment: fragment.map(Into::into),
        })
    }

    fn join(self) -> String {
        let mut out = self.scheme;
        if let Some(authority) = self.authority {
            out.push_str("//");
            out.push_str(&authority);
        }
        out.push_str(&self.path);
        for (mark, part) in [('?', self.query), ('#', self.fragment)] {
            if let Some(part) = part {
                out.push(mark);
                out.push_str(&part);
            }
        }
        out
    }
}

fn cut(text: &str, mark: char) -> (&str, Option<&str>) {
    match text.split_once(mark) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

/// Escapes all but letters, digits, `-_.~` and the characters that are allowed in this part.
fn escaped(text: &str, allowed: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-_.~".contains(c) || (c.is_ascii() && allowed.contains(c))
        {
            out.push(c);
        } else {
            // Writing to a string can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn query_escaped(text: &str) -> String {
    escaped(text, " ").replace(' ', "+")
}
