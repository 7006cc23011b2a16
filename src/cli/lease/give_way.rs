//! One of two callers who each hold a part of what both need gives it back: its leases go, and are made again.

use crate::{
    api::{Duration, Lease},
    cli::{
        Exit,
        await_active::Limit,
        connection::ask,
        error::Error,
        follow::{Follower, Sight},
        interrupt::Interrupts,
        print,
        queued::Queued,
        tolerance::Tolerance,
    },
};
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use std::{collections::BTreeSet, time};

/// The same leases for another time, with what is left of their time in the queue; nothing, where none is.
pub(super) fn with_the_rest_of_their_time(wanted: &[Lease], gone_by: time::Duration) -> Option<Vec<Lease>> {
    let rest = |lease: &Lease| {
        let mut lease = lease.clone();
        if let Some(whole) = lease.spec.queue_timeout {
            lease.spec.queue_timeout = Some(whole.to_std().checked_sub(gone_by).map(Duration::from_std)?);
        }
        Some(lease)
    };
    wanted.iter().map(rest).collect()
}

/// What came of giving way.
pub(super) enum GaveWay {
    /// All of them are gone.
    Done,
    /// Whoever runs this may not delete leases; none is.
    MayNot,
    /// Something else has ended the verb meanwhile.
    Ended(Exit),
}

/// Deletes all of them and waits until they are gone, so that their names can be used again.
pub(super) async fn give_way(
    api: &Api<Lease>,
    made: &[Lease],
    limit: Limit,
    interrupts: &mut Interrupts,
) -> Result<GaveWay, Error> {
    print::tell("another request holds what is lacking, and is before this one: giving all back, and asking again");
    for (n, lease) in made.iter().enumerate() {
        let preconditions = Preconditions { uid: Some(lease.uid().to_owned()), ..Preconditions::default() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let tried = format!("lease/{}", lease.name());
        let mut tolerance = Tolerance::proven();
        loop {
            match ask(&tried, api.delete(lease.name(), &params)).await {
                Ok(_) => break,
                Err(error) if error.is_gone(lease.name()) => break,
                Err(Error::Refused { status, .. }) if status.is_conflict() => break, // it is another's by now
                Err(Error::Refused { tried, status }) if n == 0 && status.is_forbidden() => {
                    print::tell(&format!("{tried}: {}; waiting on with what there is", status.message));
                    return Ok(GaveWay::MayNot);
                }
                Err(error) if tolerance.forgives(&error) => Tolerance::pause().await,
                Err(error) => return Err(error),
            }
        }
    }
    let mut left: BTreeSet<&str> = made.iter().map(Queued::name).collect();
    let mut follower = Follower::new(api, made.iter().map(|l| (l.name().to_owned(), l.uid().to_owned())));
    while !left.is_empty() {
        tokio::select! {
        biased;
            sight = follower.next() => if let Sight::Gone { name, .. } = sight? {
                left.remove(name.as_str());
            },
            signal = interrupts.next() => return Ok(GaveWay::Ended(Exit::Interrupted(signal))),
            ended = limit.reached() => return Ok(GaveWay::Ended(ended)),
        }
    }
    Ok(GaveWay::Done)
}
