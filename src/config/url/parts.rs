//! A URL's parts, its percent-encoding, and how much of it may be shown.

/// The parts of a target's URL, still percent-encoded.
pub(super) struct Parts<'a> {
    pub(super) scheme: String,
    pub(super) user_info: Option<&'a str>,
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) fragment: bool,
    /// The URL as written, minus its user info.
    pub(super) shown: String,
}

impl<'a> Parts<'a> {
    pub(super) fn split(url: &'a str) -> Result<Self, String> {
        if url.is_empty() {
            return Err("it is empty: write for example s3://bucket/prefix?region=…".into());
        }
        if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(
                "it has white space or control characters: write them percent-encoded (%20)".into(),
            );
        }
        let Some((scheme, rest)) = url.split_once("://").filter(|(s, _)| is_scheme(s)) else {
            return Err(match url.strip_prefix("file:/") {
                Some(path) => format!("did you mean file:///{}?", shown(path)),
                None => {
                    "it has no scheme: write for example file:///dir or s3://bucket/prefix".into()
                }
            });
        };
        if misplaced_user_info(rest) {
            return Err(
                "its user info holds a '/', '?' or '#' that is not percent-encoded: write %2F, %3F \
                 or %23 (urluserinfo does it)"
                    .into(),
            );
        }
        let (rest, fragment) = match rest.split_once('#') {
            Some((rest, _)) => (rest, true),
            None => (rest, false),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
            Some((authority, path)) => (authority, path),
            None => (rest, ""),
        };
        // The last `@`: a token may hold one that nobody has encoded.
        let (user_info, authority) = match authority.rsplit_once('@') {
            Some((user_info, host)) => (Some(user_info), host),
            None => (None, authority),
        };
        let query_shown = query.map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user_info,
            authority,
            path,
            query,
            fragment,
            shown: format!("{scheme}://{authority}{path}{query_shown}"),
        })
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Returns what stands between a URL's scheme and its path.
fn authority_of(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Tells whether an authority ends within `user:token` because the token holds a delimiter as it
/// stands. What follows would then be taken for a path, and shown.
fn misplaced_user_info(rest: &str) -> bool {
    let authority = authority_of(rest);
    authority.contains(':') && !authority.contains('@') && rest.contains('@')
}

/// Tells whether a URL has user info, even one that doesn't parse.
pub(super) fn has_user_info(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    authority_of(rest).contains('@') || misplaced_user_info(rest)
}

/// Parameters whose values may be shown: those that some scheme knows.
fn may_be_shown(name: &str) -> bool {
    super::S3_PARAMETERS.contains(&name)
        || super::GS_PARAMETERS.contains(&name)
        || super::AZURE_PARAMETERS.contains(&name)
        || super::FILE_PARAMETERS.contains(&name)
}

/// Returns the most of a text that should be a URL and may not be one that may be shown: no user
/// info, no fragment, no value of an unknown parameter (a signature, a token).
pub(super) fn shown(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    // Up to the last `@` of all: with a token's own delimiters in it, nobody knows where the
    // authority ends.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or_default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A second URL in the place of the host may have user info of its own, cut off anywhere.
    let is_port = |(_, port): (&str, &str)| port.starts_with(|c: char| c.is_ascii_digit());
    let is_cut =
        url.contains('@') && !rest.contains('[') && !rest.split_once(':').is_none_or(is_port);
    let is_cut = is_cut || rest.contains("://");
    let rest = if is_cut { "…" } else { rest };
    let mut out = scheme + rest;
    let mut separator = '?';
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        out.push(separator);
        separator = '&';
        out.push_str(&match pair.split_once('=') {
            Some((name, value)) if may_be_shown(name) => {
                format!("{name}={value}")
            }
            Some((name, _)) => format!("{}=…", parameter_shown(name)),
            None => parameter_shown(pair),
        });
    }
    out
}

/// Returns a parameter's name for a message; what doesn't look like a name may be a secret.
pub(super) fn parameter_shown(name: &str) -> String {
    // The longest known name has 18 characters, those of signed URLs up to 20.
    let plain = name.len() <= 24
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if plain { name.into() } else { "…".into() }
}

/// Undoes percent-encoding, and `+` for a space where that is meant. `None` if an escape is
/// malformed or the result isn't UTF-8.
pub(super) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// Decodes a path into its segments. One trailing slash is fine.
pub(super) fn decode_path(path: &str) -> Result<Vec<String>, String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    path.split('/')
        .map(|segment| {
            let segment = decode(segment, false)
                .ok_or("its path is not percent-encoded UTF-8: write a percent sign as %25")?;
            checked(segment)
        })
        .collect()
}

fn checked(segment: String) -> Result<String, String> {
    if segment.is_empty() {
        Err("its path has an empty segment (//): remove one slash".into())
    } else if segment == "." || segment == ".." {
        Err(format!(
            "its path has the segment {segment:?}: write the path without it"
        ))
    } else if segment.contains('/') {
        Err("its path has an encoded slash (%2F): write it as a slash".into())
    } else if segment.chars().any(char::is_control) {
        Err("its path has a control character: remove it".into())
    } else {
        Ok(segment)
    }
}

/// Returns the prefix within a store: the URL's path, then the `prefix` parameter.
pub(super) fn prefix_of(path: &str, parameter: Option<String>) -> Result<String, String> {
    let mut segments = decode_path(path)?;
    if let Some(parameter) = parameter {
        let inner = parameter.strip_prefix('/').unwrap_or(&parameter);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        for segment in inner.split('/') {
            segments.push(checked(segment.into())?);
        }
    }
    Ok(segments.join("/"))
}

/// Returns an S3 endpoint with its scheme.
pub(super) fn endpoint(text: &str, disable_https: bool) -> Result<String, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None if disable_https => ("http", text),
        None => ("https", text),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if !matches!(scheme, "http" | "https") {
        return Err("parameter endpoint must start with http:// or https://".into());
    }
    if rest.contains('@') {
        return Err(
            "parameter endpoint has user info: credentials come from the provider's chain".into(),
        );
    }
    let odd = |c: char| c.is_control() || c.is_whitespace() || "?#".contains(c);
    if rest.is_empty() || rest.starts_with([':', '/']) || rest.contains(odd) {
        return Err("parameter endpoint is not host, host:port or http(s)://host".into());
    }
    Ok(format!("{scheme}://{rest}"))
}
