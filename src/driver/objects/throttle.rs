//! Answers that ask to try again later: 429 (Too Many Requests), and 503 (Service Unavailable) with a `Retry-After`. They say
//! nothing of what was asked for, so no step fails by them.

use crate::api::Duration;
use http::{Response, StatusCode, header};
use kube::{
    Error,
    client::Body,
    core::{Status, response::StatusDetails},
};

/// The shortest and the longest time, in seconds, for which such an answer is honoured.
const SECONDS: (u32, u32) = (1, 300);

/// How long the API server asks to wait; `None` where it does not.
pub fn retry_after(error: &Error) -> Option<Duration> {
    let Error::Api(status) = error else { return None };
    let asked = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    let (shortest, longest) = SECONDS;
    let asks = status.code == 429 || (status.code == 503 && asked > 0);
    asks.then(|| Duration::from_secs(i64::from(asked.clamp(shortest, longest))))
}

/// Puts the `Retry-After` of such an answer into the Status that it holds. kube returns the body of an answer alone, and what
/// limits requests (API Priority and Fairness, a proxy) says so in the header alone.
pub async fn keep_retry_after(response: Response<Body>) -> Result<Response<Body>, Error> {
    let seconds =
        response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let asks = matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let Some(seconds) = seconds.filter(|_| asks) else { return Ok(response) };
    let (mut parts, body) = response.into_parts();
    let body = body.collect_bytes().await?;
    let text = || String::from_utf8_lossy(&body).trim().to_owned();
    let status: Status =
        serde_json::from_slice(&body).unwrap_or_else(|_| Status::failure(&text(), "").with_code(parts.status.as_u16()));
    let mut details = status.details.clone().unwrap_or_else(no_details);
    details.retry_after_seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    let status = serde_json::to_vec(&status.with_details(details)).map_err(Error::SerdeError)?;
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(status)))
}

fn no_details() -> StatusDetails {
    let (name, group, kind, uid) = Default::default();
    StatusDetails { name, group, kind, uid, causes: Vec::new(), retry_after_seconds: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, header: Option<&str>, body: &str) -> Option<i64> {
        let mut response = Response::builder().status(code);
        if let Some(seconds) = header {
            response = response.header("Retry-After", seconds);
        }
        let response = response.body(Body::from(body.as_bytes().to_vec())).unwrap();
        let response = futures::executor::block_on(keep_retry_after(response)).unwrap();
        let body = futures::executor::block_on(response.into_body().collect_bytes()).unwrap();
        // As kube reads it.
        let status = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Status::failure(&String::from_utf8_lossy(&body), "").with_code(code));
        retry_after(&Error::Api(status.boxed())).map(|wait| wait.to_std().as_secs().try_into().unwrap())
    }

    #[test]
    fn an_answer_that_asks_to_wait_says_how_long() {
        let status = |code: u16, details: &str| {
            format!("{{\"kind\": \"Status\", \"code\": {code}, \"message\": \"later\", \"details\": {{{details}}}}}")
        };
        for (code, header, body, expected) in [
            (429, Some("7"), "Too many requests, please try again later.".to_owned(), Some(7)),
            (429, None, "Too many requests".to_owned(), Some(1)),
            (429, None, status(429, ""), Some(1)),
            (429, None, status(429, "\"retryAfterSeconds\": 10"), Some(10)),
            (429, Some("20"), status(429, "\"retryAfterSeconds\": 10"), Some(20)),
            (429, Some("0"), status(429, ""), Some(1)),
            (429, Some("999999"), status(429, ""), Some(300)),
            (429, Some("Wed, 21 Oct 2015 07:28:00 GMT"), status(429, ""), Some(1)),
            (503, Some("2"), "the server is not ready".to_owned(), Some(2)),
            (503, None, status(503, ""), None),
            (500, Some("2"), status(500, ""), None),
            (403, Some("2"), status(403, ""), None),
        ] {
            assert_eq!(answer(code, header, &body), expected, "{code} {header:?} {body}");
        }
    }
}
