//! The control plane, `/api/v1`.

use http::request::Parts;
use storage::stream::ByteStream;

use crate::{
    App,
    error::Failure,
    hosts::Accepted,
    oci::{Answered, route::RouteError},
};

/// Answers a request under `/api/v1`.
pub(crate) async fn call(
    _app: &App,
    _parts: &Parts,
    _body: ByteStream,
    _host: &Accepted,
    _credential: &mut Option<String>,
) -> Answered {
    Err(Failure::Route(RouteError::NotFound { v2: false }))
}
