//! The pass over a Blueprint: its own status and finalizer, and the Resources that the matcher has ordered. It deletes no
//! Resource (protocol.md, B3): they drain by themselves (R7).

use super::{AGAIN, Key, ObjectKey, PassError, Shell, Written, carry_out, in_time, read_opt, resource::siblings};
use crate::{
    api::{
        BLUEPRINT_LABEL, Blueprint, FINALIZER, Lease, MicroTime, Readable, Resource, ResourcePhase, ResourceSpec,
        resource::{BlueprintRef, LeaseRef},
        slot_name,
        step::Slot,
    },
    controller::{index::DueReclaim, writer::RequestError},
    lifecycle::{MetadataChange, Read, Urgency, blueprint, commands::shorten, is_deleting, matching, pool, uid},
};
use kube::{
    Api,
    api::{ListParams, ObjectMeta, Patch, PatchParams},
};
use std::sync::Arc;

pub(super) async fn pass(shell: &Arc<Shell>, key: &Key, object: &ObjectKey) -> Result<Option<MicroTime>, PassError> {
    shell.see(|index, now| index.retry_builds(object, now));
    let trouble = check(shell, object).await;
    let made = make_ordered(shell, object).await;
    let reclaimed = reclaim_due(shell, object).await;
    let mut resources_left = None;
    loop {
        let Some(mut view) = shell.see(|index, now| index.around_blueprint(object, now)) else {
            super::super::lock(&shell.counted).remove(object);
            return Ok(None);
        };
        let now = shell.clock.now();
        if view.blueprint.metadata.generation != trouble.0 {
            // It was changed meanwhile: its next pass tells of what it is now.
            return made.map(|()| None);
        }
        view.around.trouble.clone_from(&trouble.1);
        view.around.resources_left = resources_left;
        view.around.counted_at = super::super::lock(&shell.counted).get(object).copied();
        let blueprint = view.blueprint;
        let decision = blueprint::decide(&blueprint, &view.around, now);
        if decision.reads.contains(&Read::ResourcesOfBlueprint) && bug!(BlueprintGoesFirst) {
            resources_left = Some(0);
            continue;
        }
        if decision.reads.contains(&Read::ResourcesOfBlueprint) {
            resources_left = Some(self::resources_left(shell, object, uid(&blueprint.metadata)).await?);
            continue;
        }
        if bug!(ChangesBlueprint) && !blueprint.spec.suspend {
            suspend(shell, &blueprint).await?;
        }
        if bug!(DeletesResources) && is_deleting(&blueprint.metadata) {
            delete_idle(shell, &blueprint).await?;
        }
        let on_record = blueprint.status.clone().unwrap_or_default();
        let next = (decision.status != on_record)
            .then(|| Blueprint { status: Some(decision.status.clone()), ..(*blueprint).clone() });
        let counted = decision.status.resources != on_record.resources || decision.status.waiting != on_record.waiting;
        let see = |shell: &Arc<Shell>, b| shell.see(|index, now| index.see_blueprint(b, now));
        let lose = |shell: &Arc<Shell>, b: &Blueprint| shell.see(|index, now| index.lose_blueprint(&b.metadata, now));
        let wake = match carry_out(shell, key, &*blueprint, &decision, next, see, lose).await? {
            Written::Stands(_) => decision.wake,
            Written::Overtaken => Some(shell.soon(AGAIN)),
        };
        if counted {
            super::super::lock(&shell.counted).insert(object.clone(), now);
        }
        made?;
        return Ok(wake.into_iter().chain(reclaimed?).min());
    }
}

/// B2: how many Resources a Blueprint has, by a quorum list. Their metadata is enough: one that cannot be read counts, too.
pub(super) async fn resources_left(shell: &Shell, blueprint: &ObjectKey, id: &str) -> Result<usize, PassError> {
    let api: Api<Resource> = Api::namespaced(shell.client.clone(), &blueprint.namespace);
    let selector = ListParams::default().fields(&format!("spec.blueprintRef.uid={id}"));
    let left = in_time(api.list_metadata(&selector)).await;
    left.map(|left| left.items.len()).map_err(|source| PassError::Request { what: "a quorum list", source })
}

/// The bug `ChangesBlueprint`: a Blueprint's spec is its author's.
async fn suspend(shell: &Arc<Shell>, blueprint: &Blueprint) -> Result<(), PassError> {
    let api: Api<Blueprint> =
        Api::namespaced(shell.client.clone(), blueprint.metadata.namespace.as_deref().unwrap_or_default());
    let patch = Patch::Merge(serde_json::json!({"spec": {"suspend": true}}));
    let patched =
        in_time(api.patch(blueprint.metadata.name.as_deref().unwrap_or_default(), &PatchParams::default(), &patch))
            .await;
    patched.map(drop).map_err(|source| PassError::Request { what: "changing a Blueprint", source })
}

/// The bug `DeletesResources`: what R7 leaves to the resources themselves.
async fn delete_idle(shell: &Arc<Shell>, blueprint: &Blueprint) -> Result<(), PassError> {
    let namespace = blueprint.metadata.namespace.as_deref().unwrap_or_default();
    for resource in siblings(shell, namespace, uid(&blueprint.metadata)).await?.readable {
        if resource.claims().is_empty() && !is_deleting(&resource.metadata) {
            let deleted = shell.writer.change_metadata(Urgency::Later, &resource, MetadataChange::Delete).await;
            deleted.map_err(|source| PassError::Request { what: "deleting a Resource", source })?;
        }
    }
    Ok(())
}

/// What its driver finds wrong with a Blueprint, and in which generation of it.
async fn check(shell: &Arc<Shell>, object: &ObjectKey) -> (Option<i64>, Option<(&'static str, String)>) {
    let view = shell.see(|index, now| index.around_blueprint(object, now));
    let Some(blueprint) = view.map(|view| view.blueprint) else { return (None, None) };
    let generation = blueprint.metadata.generation;
    if let Some(trouble) = super::expiry::check(shell, &blueprint).await {
        return (generation, Some(trouble));
    }
    let Some(driver) = shell.drivers.of_blueprint(&blueprint) else { return (generation, None) };
    // A path, or a key, may be as long as the Blueprint; a status that is refused would tell nothing.
    (generation, driver.check(blueprint).await.map(|trouble| (trouble.reason, shorten(trouble.message, 1024))))
}

/// Asks the resources that make room for those who wait to go. Returns when the next may be asked.
async fn reclaim_due(shell: &Arc<Shell>, object: &ObjectKey) -> Result<Option<MicroTime>, PassError> {
    let (due, next) = shell.see(|index, now| index.due_reclaims(object, now));
    for DueReclaim { resource, lease } in due {
        match shell.writer.append(&resource, &pool::reclaim(&resource, &lease)).await {
            Ok(asked) => shell.see(|index, now| index.see_resource(asked, now)),
            Err(RequestError::Gone) => shell.see(|index, now| index.lose_resource(&resource.metadata, now)),
            // It has changed, and that is about to be seen; or it takes no more commands.
            Err(RequestError::Conflict | RequestError::Refused(_)) => {
                shell.see(|index, _| index.cannot_reclaim(&resource));
            }
            Err(source) => return Err(PassError::Request { what: "appending a Reclaim", source }),
        }
    }
    Ok(next)
}

/// Makes the Resources that the matcher has ordered, one after the other: the API server is the bottleneck, and what is
/// first in order is served first.
async fn make_ordered(shell: &Arc<Shell>, object: &ObjectKey) -> Result<(), PassError> {
    let Some(view) = shell.see(|index, now| index.around_blueprint(object, now)) else { return Ok(()) };
    let mut settled = Vec::new();
    let mut outcome = Ok(Made::GoOn);
    for order in view.orders {
        if let (Some(limit), Ok(Made::GoOn), true) = (view.counted_limit, &outcome, order.make.is_some()) {
            // What the cache shows may be old, and here no name is the lock; each resource asks again before it is built.
            let others = siblings(shell, &object.namespace, uid(&view.blueprint.metadata)).await;
            match others {
                Ok(others) => {
                    let counts = |phase| phase < ResourcePhase::Released || !bug!(CountsTheHealthy);
                    let live = |r: &&Resource| r.phase() != ResourcePhase::Destroyed && counts(r.phase());
                    let live = others.readable.iter().filter(live).count() + others.unreadable;
                    for resource in others.readable {
                        shell.see(|index, now| index.see_resource(resource, now));
                    }
                    if i64::try_from(live).unwrap_or(i64::MAX) >= limit {
                        settled.push(order.slot);
                        continue;
                    }
                }
                Err(error) => outcome = Err(error),
            }
        }
        if let (Some((slot, lease)), Ok(Made::GoOn)) = (order.make, &outcome) {
            outcome = make(shell, &view.blueprint, &slot, lease.as_deref()).await;
            if let Ok(Made::Refused(resource, why)) = &outcome {
                shell.see(|index, now| index.build_failed(object, Some(resource), why.clone(), now));
                // What was refused may be what the lease asked for: that puts off nobody else.
                let is_put_off = shell.see(|index, now| index.is_put_off(object, now));
                outcome = Ok(if is_put_off { Made::Stop } else { Made::GoOn });
            }
        }
        settled.push(order.slot);
    }
    if let Ok(Made::BackOff(why)) = &outcome {
        shell.see(|index, now| index.build_failed(object, None, why.clone(), now));
    }
    if !settled.is_empty() {
        shell.see(|index, now| index.settle_orders(object, &settled, now));
    }
    outcome.map(|_| ())
}

/// How to go on after one creation.
enum Made {
    GoOn,
    /// The Blueprint's builds are put off, all of them.
    BackOff(String),
    /// This one was refused, and why.
    Refused(Box<Resource>, String),
    /// Builds are put off by now.
    Stop,
}

/// B1: creates by name only. One that is there already is not this pass's, and never adopted: it is looked at again.
async fn make(
    shell: &Arc<Shell>,
    blueprint: &Blueprint,
    slot: &Slot,
    lease: Option<&Lease>,
) -> Result<Made, PassError> {
    let resource = draft(blueprint, slot, lease);
    match shell.writer.create(&resource).await {
        Ok(made) => shell.see(|index, now| index.see_resource(made, now)),
        Err(RequestError::AlreadyExists) => {
            let namespace = resource.metadata.namespace.as_deref().unwrap_or_default();
            let api: Api<Readable<Resource>> = Api::namespaced(shell.client.clone(), namespace);
            let name = resource.metadata.name.as_deref().unwrap_or_default();
            let found = read_opt(&api, name).await;
            let found = found.map_err(|source| PassError::Request { what: "reading who has the slot", source })?;
            let Some(found) = found else { return Ok(Made::GoOn) };
            match found.0 {
                Ok(found) => shell.see(|index, now| index.see_resource(found, now)),
                Err(error) => {
                    tracing::warn!(namespace, name, "who has the slot cannot be read, and is left alone: {error}");
                    return Ok(Made::BackOff(format!("Resource {name} is there, and cannot be read: {error}")));
                }
            }
        }
        Err(RequestError::Refused(why)) => {
            let key = ObjectKey::of(&blueprint.metadata);
            tracing::warn!(blueprint = %key, slot = slot.name, "a Resource could not be created: {why}");
            return Ok(Made::Refused(resource.into(), format!("a Resource could not be created: {why}")));
        }
        // What is there now is seen by the next pass.
        Err(source) => return Err(PassError::Request { what: "creating a Resource", source }),
    }
    Ok(Made::GoOn)
}

/// A Resource that is built for a lease, or for nobody and to be kept ready.
pub(in crate::controller) fn draft(blueprint: &Blueprint, slot: &Slot, lease: Option<&Lease>) -> Resource {
    let policy = &blueprint.spec.resource;
    let meta = &blueprint.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let blueprint_uid = uid(meta).to_owned();
    Resource {
        metadata: ObjectMeta {
            name: Some(slot_name(&name, &slot.name)),
            namespace: meta.namespace.clone(),
            labels: Some([(BLUEPRINT_LABEL.to_owned(), blueprint_uid.clone())].into()),
            finalizers: (!bug!(ResourceWithoutFinalizer)).then(|| vec![FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: ResourceSpec {
            blueprint_ref: BlueprintRef { name, uid: blueprint_uid },
            resource_type: blueprint.spec.resource_type.clone(),
            attributes: slot.attributes.clone(),
            parameters: lease
                .map_or_else(|| matching::default_flavour(policy), |lease| matching::flavours(&lease.spec, policy)),
            template_hash: Some(slot.template_hash.clone()),
            requested_for: lease.map(|lease| LeaseRef {
                namespace: lease.metadata.namespace.clone().unwrap_or_default(),
                name: lease.metadata.name.clone().unwrap_or_default(),
                uid: uid(&lease.metadata).to_owned(),
            }),
            expires_at: None,
            commands: Vec::new(),
        },
        status: None,
    }
}
