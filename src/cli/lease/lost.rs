//! What is lost on the way to and from the API server: whatever was created is found, or said to be unknown.

use super::*;
use http::{Method, Request, Response};
use kube::{Client, client::Body};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

/// What becomes of one request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is carried out, and the answer is lost.
    Lost,
    /// It is carried out, and answered.
    Answered,
    /// It is refused with this code, in words that are about no object: as by a server that has just started.
    Refused(u16),
}
use Fate::{Answered, Lost, Refused};

/// An API server with room for one lease, which is there from the first create on; what is not foretold is lost.
fn server(there: Option<Value>, fates: &[Fate]) -> Api<Lease> {
    let state = Arc::new(Mutex::new((there, fates.iter().copied().collect::<VecDeque<_>>())));
    let answer = move |request: Request<Body>| {
        let state = state.clone();
        async move {
            let create = request.method() == Method::POST;
            let body = request.into_body().collect_bytes().await.unwrap_or_default();
            let mut state = state.lock().unwrap();
            let fate = state.1.pop_front().unwrap_or(Lost);
            if let Refused(code) = fate {
                let refusal = json!({"kind": "Status", "code": code, "message": "User \"alice\" cannot do that"});
                return Ok(Response::builder()
                    .status(code)
                    .body(Body::from(refusal.to_string().into_bytes()))
                    .unwrap());
            }
            let (code, answer) = match (create, &state.0) {
                (false, Some(there)) => (200, there.clone()),
                (false, None) => {
                    let details = json!({"name": "x", "group": "drydock.dev", "kind": "leases"});
                    (404, json!({"kind": "Status", "code": 404, "reason": "NotFound", "details": details}))
                }
                (true, Some(_)) => (409, json!({"kind": "Status", "code": 409, "reason": "AlreadyExists"})),
                (true, None) => {
                    let made: Value = serde_json::from_slice(&body).unwrap();
                    state.0 = Some(made.clone());
                    (201, made)
                }
            };
            match fate {
                Answered | Refused(_) => {
                    let body = Body::from(serde_json::to_vec(&answer).unwrap());
                    Ok(Response::builder().status(code).body(body).unwrap())
                }
                Lost => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            }
        }
    };
    Api::namespaced(Client::new(tower::service_fn(answer), "ci"), "ci")
}

fn lease(request: &str) -> Lease {
    let mut lease = Lease::new("x", LeaseSpec { resource_type: "host".into(), ..LeaseSpec::default() });
    lease.metadata.annotations = Some([(REQUEST.to_owned(), request.to_owned())].into());
    lease
}

fn anothers() -> Option<Value> {
    serde_json::to_value(lease("another's")).ok()
}

#[tokio::test(start_paused = true)]
async fn a_create_finds_its_own_through_whatever_passes() {
    for (there, fates, expected) in [
        (None, &[Answered][..], Ok(())),
        (None, &[Lost, Answered, Answered], Ok(())),
        (None, &[Lost, Answered, Lost, Answered, Answered], Ok(())),
        (anothers(), &[Answered, Lost, Answered, Answered], Err(false)),
        (None, &[], Err(true)),
    ] {
        let made = create(&server(there, fates), &lease("mine"), &mut Tolerance::None).await;
        let made = made.map(|made| assert_eq!(made.name(), "x")).map_err(|error| error.is_passing());
        assert_eq!(made, expected, "{fates:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_created_though_nobody_answered_is_found_to_be_taken_back() {
    let mine = || serde_json::to_value(lease("mine")).ok();
    for (there, fates, found) in [
        (mine(), &[Answered][..], true),
        (mine(), &[Lost, Lost, Answered], true),
        (mine(), &[], false),
        (anothers(), &[Answered], false),
        (None, &[Answered], false),
    ] {
        assert_eq!(
            find_own(&server(there, fates), &lease("mine"), Tolerance::None).await.is_some(),
            found,
            "{fates:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn whom_it_has_served_a_server_that_has_just_started_does_not_stop() {
    let starting =
        [Refused(403), Lost, Lost, Refused(401), Lost, Lost, Lost, Refused(404), Refused(500), Answered, Answered];
    let made = create(&server(None, &starting), &lease("mine"), &mut Tolerance::proven()).await;
    assert_eq!(made.map(|made| made.name().to_owned()).map_err(|error| error.to_string()), Ok("x".to_owned()));
    let refused = create(&server(None, &starting), &lease("mine"), &mut Tolerance::None).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");

    let command: Command = serde_json::from_value(json!({"id": "c", "type": "Release"})).unwrap();
    let mut there = lease("mine");
    there.metadata.uid = Some("u".to_owned());
    let release = async |fates: &[Fate], tolerance| {
        append(&server(serde_json::to_value(&there).ok(), fates), "x", Some("u"), &command, tolerance).await
    };
    // Once for the look, and once for the patch.
    let twice = [&starting[..], &starting, &starting].concat();
    assert!(matches!(release(&twice, Tolerance::proven()).await, Ok(Appended::Queued { .. })));
    assert!(release(&twice, Tolerance::None).await.is_err());
    let refused = release(&[Refused(403); 200], Tolerance::proven()).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "it is believed after a minute: {refused:?}");
}
