//! Creating an object with strict field validation: the API server refuses a field that it does not know instead of dropping
//! it, and its warnings are returned. [`kube::Api::create`] offers neither.

use super::snapshot::Snapshot;
use http::{HeaderMap, Request, header};
use kube::{Api, Error, api::PostParams, client::Body, core::Status};
use serde_json::Value;

/// So many warnings of one request are returned, each cut to so many characters.
const WARNINGS: (usize, usize) = (8, 300);

/// What came of a request that has created an object.
pub struct Created {
    /// The object as it is stored.
    pub object: Snapshot,
    /// What the API server has warned of.
    pub warnings: Vec<String>,
}

/// Creates an object.
///
/// # Errors
/// Where the API server refuses it, which it does for an unknown field, or does not answer.
pub async fn create(api: &Api<Snapshot>, manager: &str, object: &Value) -> Result<Created, Error> {
    let params = PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() };
    let body = serde_json::to_vec(object).map_err(Error::SerdeError)?;
    let request = kube::core::Request::new(api.resource_url()).create(&params, body).map_err(Error::BuildRequest)?;
    let (mut parts, body) = request.into_parts();
    let strict = format!("{}&fieldValidation=Strict", parts.uri);
    parts.uri = strict.parse().map_err(|error: http::uri::InvalidUri| Error::HttpError(error.into()))?;
    let response = api.clone().into_client().send(Request::from_parts(parts, Body::from(body))).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect_bytes().await?;
    if !parts.status.is_success() {
        let text = || String::from_utf8_lossy(&body).trim().to_owned();
        let status: Status = serde_json::from_slice(&body).unwrap_or_else(|_| Status::failure(&text(), ""));
        return Err(Error::Api(status.with_code(parts.status.as_u16()).boxed()));
    }
    let object = serde_json::from_slice(&body).map_err(Error::SerdeError)?;
    Ok(Created { object, warnings: warnings(&parts.headers) })
}

/// The texts of `Warning` headers. Each header may hold several values of the form `299 agent "text" ["date"]`, as RFC 7234
/// has them.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let (number, length) = WARNINGS;
    let values = headers.get_all(header::WARNING).into_iter().filter_map(|value| value.to_str().ok());
    let mut found: Vec<String> = Vec::new();
    for text in values.flat_map(texts) {
        let cut: String = text.chars().take(length).collect();
        let text = if cut.len() < text.len() { format!("{cut}…") } else { cut };
        if !found.contains(&text) {
            found.push(text);
        }
        if found.len() >= number {
            break;
        }
    }
    found
}

/// The texts of one `Warning` header: the first quoted string of each of its values.
fn texts(header: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut chars = header.chars();
    let mut has_text = false;
    while let Some(char) = chars.next() {
        match char {
            ',' => has_text = false,
            '"' => {
                let mut text = String::new();
                while let Some(char) = chars.next().filter(|char| *char != '"') {
                    match char {
                        '\\' => text.extend(chars.next()),
                        char => text.push(char),
                    }
                }
                // The second quoted string of a value is its date.
                if !std::mem::replace(&mut has_text, true) && !text.is_empty() {
                    texts.push(text);
                }
            }
            _ => {}
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[&str]) -> Vec<String> {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(header::WARNING, value.parse().unwrap());
        }
        warnings(&map)
    }

    #[test]
    fn warnings_are_the_quoted_texts_of_their_headers() {
        for (headers, expected) in [
            (&[][..], &[][..]),
            (
                &["299 - \"policy/v1beta1 PodDisruptionBudget is deprecated\""],
                &["policy/v1beta1 PodDisruptionBudget is deprecated"],
            ),
            (&["299 - \"one\"", "299 - \"two\""], &["one", "two"]),
            (&["299 - \"one, two\", 299 kube \"three\" \"Wed, 21 Oct 2015 07:28:00 GMT\""], &["one, two", "three"]),
            (&["299 - \"a \\\"quoted\\\" \\\\ word\""], &["a \"quoted\" \\ word"]),
            (&["299 - \"the same\"", "299 - \"the same\""], &["the same"]),
            (&["299 - \"not closed"], &["not closed"]),
            (&["299 - \"\"", "nothing"], &[]),
        ] {
            assert_eq!(of(headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn warnings_are_bounded_in_number_and_length() {
        let many: Vec<String> = (0..20).map(|n| format!("299 - \"{n}{}\"", "x".repeat(400))).collect();
        let found = of(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(found.len(), 8);
        assert!(found.iter().all(|text| text.chars().count() == 301), "{found:?}");
    }
}
