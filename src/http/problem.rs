//! Errors as `application/problem+json` (RFC 9457).

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One problem.
#[derive(Serialize)]
pub(super) struct Problem {
    /// A URI of the kind of problem; there is none.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// The status in words.
    pub(super) title: &'static str,
    /// The status.
    pub(super) status: u16,
    /// The error code, where there is one.
    pub(super) code: Option<String>,
    /// What was found.
    pub(super) detail: String,
    /// What to do.
    pub(super) fix: Option<String>,
}

impl Problem {
    /// Without code and fix.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("error"),
            status: status.as_u16(),
            code: None,
            detail: detail.into(),
            fix: None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// A body of JSON, whatever is said of its type; one that is none is told as every other problem.
pub(super) struct Given<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Given<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|refused| Problem::new(refused.status(), refused.body_text()))?;
        serde_json::from_slice(&bytes).map(Given).map_err(|cause| Problem {
            fix: Some("GET /openapi.json shows what is expected".to_owned()),
            ..Problem::new(
                StatusCode::BAD_REQUEST,
                format!("the body is not the JSON that is expected: {cause}"),
            )
        })
    }
}

/// 404.
pub(super) async fn unknown_path(uri: Uri) -> Problem {
    Problem {
        fix: Some("GET /openapi.json names all paths".to_owned()),
        ..Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
    }
}

/// 405.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}", uri.path());
    let fix = if method == Method::GET { "use POST" } else { "use GET" };
    Problem { fix: Some(fix.to_owned()), ..Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
}
