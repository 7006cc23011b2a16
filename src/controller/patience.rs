//! A request whose answer does not begin in time has failed. kube sets no such limit: a list or a watch that is never
//! answered would leave its watch silent for ever, and nothing would tell, for other requests are answered.

use axum::http::{Request, Response};
use futures::{FutureExt as _, future::BoxFuture};
use kube::client::{Body, Client};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tower_service::Service;

/// How long the answer may take to begin; what follows, as the events of a watch, takes as long as it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same client, with limited patience.
pub fn limited(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(Limited(client), namespace)
}

#[derive(Clone)]
struct Limited(Client);

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Service<Request<Body>> for Limited {
    type Response = Response<Body>;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Self::Response, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        // The client has a queue of its own.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.clone();
        async move {
            match tokio::time::timeout(PATIENCE, client.send(request)).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(format!("no answer within {PATIENCE:?}").into()),
            }
        }
        .boxed()
    }
}
