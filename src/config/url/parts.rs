//! The parts of a target's URL: their percent-encoding, the query parameters, and the part that is
//! safe to show.

/// The query parameters of `s3`: Go CDK's. The old spelling comes last.
pub(super) const S3_PARAMETERS: [&str; 15] = [
    "region",
    "endpoint",
    "profile",
    "anonymous",
    "use_path_style",
    "disable_https",
    "role",
    "accelerate",
    "ssetype",
    "kmskeyid",
    "dualstack",
    "fips",
    "hostname_immutable",
    "prefix",
    "s3ForcePathStyle",
];
/// The query parameters of `gs`.
pub(super) const GS_PARAMETERS: [&str; 4] = ["anonymous", "access_id", "universe_domain", "prefix"];
/// The query parameters of `azblob` and `azureblob`.
pub(super) const AZURE_PARAMETERS: [&str; 6] = [
    "storage_account",
    "domain",
    "protocol",
    "localemu",
    "cdn",
    "prefix",
];
/// The query parameter of `file`.
pub(super) const FILE_PARAMETERS: [&str; 1] = ["create_dir"];

/// The parts of a target's URL, still percent-encoded.
pub(super) struct Parts<'a> {
    pub(super) scheme: String,
    pub(super) user_info: Option<&'a str>,
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) fragment: bool,
    /// The URL as written, without its user info.
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
        // The last `@`: a token may hold an unencoded one.
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

/// Returns the authority: the part between a URL's scheme and its path.
fn authority_of(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Tells whether an authority ends within `user:token` because the token holds a delimiter. The
/// rest of the token would then look like a path, and a message would show it.
fn misplaced_user_info(rest: &str) -> bool {
    let authority = authority_of(rest);
    authority.contains(':') && !authority.contains('@') && rest.contains('@')
}

/// Tells whether a URL has user info, even if it doesn't parse.
pub(super) fn has_user_info(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    authority_of(rest).contains('@') || misplaced_user_info(rest)
}

/// Tells whether a message may show the parameter's value: only if some scheme has such a
/// parameter.
fn may_be_shown(name: &str) -> bool {
    S3_PARAMETERS.contains(&name)
        || GS_PARAMETERS.contains(&name)
        || AZURE_PARAMETERS.contains(&name)
        || FILE_PARAMETERS.contains(&name)
}

/// Returns the part of a URL, or of a text in its position, that is safe to show: no user info, no
/// fragment, no value of an unknown parameter (a signature, a token).
pub(super) fn shown(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    // Up to the last `@` of all: a token may hold delimiters, so the end of the authority is
    // unknown.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or_default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A second URL in the position of the host may have user info of its own, cut off anywhere.
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

/// Returns a parameter's name for a message. A text that doesn't look like a name may be a secret.
pub(super) fn parameter_shown(name: &str) -> String {
    // The longest known name has 18 characters, those of signed URLs up to 20.
    let plain = name.len() <= 24
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if plain { name.into() } else { "…".into() }
}

/// Decodes percent-encoding, and (with `plus_is_space`) `+` as a space. `None` if an escape is
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

/// Decodes a path into its segments. One trailing slash is allowed.
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

/// The parameters of one URL: each is known to its scheme and occurs once.
pub(super) struct Query {
    pairs: Vec<(&'static str, String)>,
}

impl Query {
    /// Parses the query of a URL whose scheme knows the given parameters.
    pub(super) fn parse(parts: &Parts<'_>, known: &[&'static str]) -> Result<Self, String> {
        let mut pairs: Vec<(&'static str, String)> = Vec::new();
        for pair in parts.query.unwrap_or_default().split('&') {
            if pair.is_empty() {
                continue;
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = known.iter().copied().find(|known| *known == name) else {
                return Err(unknown(name, &parts.scheme, known));
            };
            if pairs.iter().any(|(seen, _)| *seen == name) {
                return Err(format!("parameter {name} appears twice: keep one"));
            }
            let value = decode(value, true).ok_or_else(|| {
                format!(
                    "parameter {name} is not percent-encoded UTF-8: write a percent sign as %25"
                )
            })?;
            if value.chars().any(char::is_control) {
                return Err(format!(
                    "parameter {name} has a control character: remove it"
                ));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(known, _)| *known == name)?;
        Some(self.pairs.swap_remove(at).1)
    }

    /// Takes a parameter's text. An empty one is an error, because it mostly comes from an unset
    /// variable.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            Some(value) if value.is_empty() => Err(format!(
                "parameter {name} is empty: give it a value or remove it"
            )),
            other => Ok(other),
        }
    }

    /// Takes a boolean parameter, if it is present. The spellings are those of Go's
    /// `strconv.ParseBool`, as in Atlas.
    pub(super) fn optional_flag(&mut self, name: &str) -> Result<Option<bool>, String> {
        match self.take(name).as_deref() {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(format!(
                "parameter {name} is {:?}: write true or false",
                other.chars().take(16).collect::<String>()
            )),
        }
    }

    /// Takes a boolean parameter; a missing one is false.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, String> {
        Ok(self.optional_flag(name)?.unwrap_or(false))
    }
}

fn unknown(name: &str, scheme: &str, known: &[&str]) -> String {
    let known_ones = match known {
        [] => format!("{scheme} URLs have no parameters"),
        known => format!("known for {scheme} are {}", known.join(", ")),
    };
    format!(
        "unknown parameter {:?}{}: {known_ones}{}",
        parameter_shown(name),
        did_you_mean(name, known),
        if looks_like_credential(name) {
            "; credentials come from the provider's own chain, never from the URL"
        } else {
            ""
        }
    )
}

/// Tells whether a parameter looks like one for credentials.
fn looks_like_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "key",
        "secret",
        "token",
        "sig",
        "sas",
        "password",
        "credential",
    ]
    .iter()
    .any(|part| name.contains(part))
}

/// Returns ` (did you mean "…"?)` if a known word is at most two edits away.
pub(crate) fn did_you_mean(word: &str, known: &[impl AsRef<str>]) -> String {
    // Longer than any known word and its two edits, so not worth a comparison.
    if word.len() > 32 {
        return String::new();
    }
    let edits = |known: &str| strsim::levenshtein(&word.to_lowercase(), &known.to_lowercase());
    known
        .iter()
        .map(AsRef::as_ref)
        .map(|known| (edits(known), known))
        .filter(|(edits, known)| *edits <= 2 && *edits < known.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, known)| format!(" (did you mean {known:?}?)"))
        .unwrap_or_default()
}
