//! What the simulated driver says beside what its steps do: to a deadline that has come, as leases come and go, of what has
//! been damaged, and in its books. By chance, or as a story tells it to.

use crate::{
    journal::What,
    world::{InWorld, World},
};
use drydock::{
    api::{
        Blueprint, Duration as Length, MicroTime, Wish,
        step::{EffectKey, HookCall, HookKind, Moves, Observed, StepKind, Storage, Verdict},
    },
    driver::Work,
};
use futures::{FutureExt as _, future::BoxFuture};
use std::{collections::BTreeMap, hash::Hasher as _, sync::Arc};

/// What the driver says to a deadline that has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Says {
    /// What chance says, for Blueprints whose driver has a say (`asked` in its URL).
    #[default]
    ByChance,
    /// It may be kept.
    Yes,
    /// Not yet, with these words.
    No(&'static str),
    /// Nothing, ever.
    Nothing,
    /// It panics.
    Panics,
}

/// What the driver moves as a lease comes or goes: by what it is shown, and when.
pub type Hook = fn(HookKind, &Work, MicroTime) -> Moves;

/// How the driver behaves.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    pub says: Says,
    /// Whether it wants to be told of leases.
    pub hooks: bool,
    /// What it does then; `None`: what chance says.
    pub hook: Option<Hook>,
    /// It does not answer then.
    pub hooks_hang: bool,
    /// It keeps books by chance.
    pub books: bool,
    /// What it stores with these steps.
    pub stores: BTreeMap<StepKind, Storage>,
}

/// How it looks at its environments, and how it counts: in its books under these names.
pub const ACQUIRED: &str = "acquired";
/// See [`ACQUIRED`].
pub const RELEASED: &str = "released";

/// When an environment that is damaged is looked at again, though nobody tells of a change.
const LOOK_AGAIN: i64 = 60;

impl World {
    /// What a step puts into the books, if anything.
    pub fn books(&self, by: &Arc<str>, kind: StepKind, work: &Work) -> Option<Storage> {
        let habits = self.habits();
        let told = habits.stores.get(&kind).cloned();
        let chance = &self.faults.chance;
        let making = matches!(kind, StepKind::Build | StepKind::Activate);
        let by_chance = || {
            let entry = (kind.as_str().to_owned(), chance.within(0..1_000_000).to_string());
            let mut books = work.lease.as_ref().map_or_else(
                || work.resource.as_ref().and_then(|r| r.status.as_ref()).map(|s| s.storage.clone()),
                |lease| lease.status.as_ref().map(|s| s.storage.clone()),
            );
            books.get_or_insert_default().extend([entry]);
            books
        };
        let books = told.or_else(|| (habits.books && making && chance.permille(600)).then(by_chance).flatten())?;
        self.note(by, What::Stored { key: work.key.clone(), books: books.clone() });
        Some(books)
    }

    /// What the key names is not as it should be any more.
    pub fn damage(&self, by: &Arc<str>, key: &EffectKey, for_good: bool) {
        let there = self.is_there(key);
        if there && self.damaged().insert(key.clone(), for_good).is_none_or(|before| before != for_good) {
            self.note(by, What::Damaged { key: key.clone(), for_good });
            self.tell(key);
        }
    }

    /// What is not damaged for good is as it should be again.
    pub fn mend(&self, by: &Arc<str>) {
        let mendable: Vec<_> =
            self.damaged().iter().filter(|(_, for_good)| !**for_good).map(|(k, _)| k.clone()).collect();
        for key in mendable {
            self.damaged().remove(&key);
            self.note(by, What::Mended(key.clone()));
            self.tell(&key);
        }
    }
}

/// What a resource is made from, in short.
pub fn template_hash(blueprint: &Blueprint) -> String {
    let spec = &blueprint.spec;
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(format!("{:?} {:?} {:?}", spec.driver, spec.attributes, spec.resource.parameters).as_bytes());
    format!("{:016x}", hasher.finish())
}

impl InWorld {
    /// Whether it is asked at the deadlines of a Blueprint.
    pub fn is_asked(&self, blueprint: &Blueprint) -> bool {
        let url = blueprint.spec.driver.webhook.as_ref().map(|webhook| webhook.client_config.url.contains("asked"));
        self.world.habits().says != Says::ByChance || url == Some(true)
    }

    pub fn answer(&self, work: Work) -> BoxFuture<'static, Verdict> {
        let (world, by) = (self.world.clone(), self.by.clone());
        async move {
            let faults = &world.faults;
            let says = match world.habits().says {
                Says::ByChance if faults.happens(|r| r.silent) => Says::Nothing,
                Says::ByChance if faults.happens(|r| r.declines) => Says::No("it is busy"),
                Says::ByChance => Says::Yes,
                told => told,
            };
            let verdict = match says {
                Says::No(why) => Some(Verdict::Decline(why.into())),
                Says::Yes | Says::ByChance => Some(Verdict::Expire),
                Says::Nothing | Says::Panics => None,
            };
            if verdict.is_some() {
                world.wait(1..2_000).await;
            }
            world.note(&by, What::Asked { key: work.key, says: verdict.clone() });
            match verdict {
                Some(verdict) => verdict,
                None if says == Says::Panics => panic!("the driver panics, as the story says"),
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    pub fn told(&self, kind: HookKind, work: Work) -> BoxFuture<'static, Moves> {
        let (world, by) = (self.world.clone(), self.by.clone());
        async move {
            let habits = world.habits();
            let call = HookCall { kind, key: work.key.clone() };
            if habits.hooks_hang || world.faults.happens(|r| r.silent) {
                world.note(&by, What::Hooked { call, moves: None });
                return std::future::pending().await;
            }
            world.wait(1..500).await;
            let now = MicroTime::from(world.clocks.wall());
            let moves = match habits.hook {
                Some(hook) => hook(kind, &work, now),
                None => by_chance(&world, kind, &work, now),
            };
            world.note(&by, What::Hooked { call, moves: Some(moves.clone()) });
            moves
        }
        .boxed()
    }

    pub fn look(&self, work: &Work) -> BoxFuture<'static, Option<Observed>> {
        let (world, key) = (self.world.clone(), work.key.clone());
        async move {
            if world.faults.happens(|r| r.silent) {
                if world.faults.chance.permille(500) {
                    std::future::pending::<()>().await;
                }
                return None;
            }
            let damaged = world.damaged().get(&key).copied();
            Some(Observed {
                lost: damaged.map(|_| "it does not answer".into()),
                for_good: damaged == Some(true),
                look_again: damaged.map(|_| Length::from_secs(LOOK_AGAIN)),
                ..Observed::default()
            })
        }
        .boxed()
    }
}

/// It counts who comes and who goes; and clears the clock, extends or sets it, or leaves it.
fn by_chance(world: &World, kind: HookKind, work: &Work, now: MicroTime) -> Moves {
    let chance = &world.faults.chance;
    let mut books =
        work.resource.as_ref().and_then(|r| r.status.as_ref()).map(|s| s.storage.clone()).unwrap_or_default();
    let count = if kind == HookKind::DidAcquire { ACQUIRED } else { RELEASED };
    let counted = count_of(&books, count) + 1;
    books.insert(count.into(), counted.to_string());
    let soon = now.after(Length::from_secs(chance.within(30..1800) as i64));
    let expires = match chance.within(0..4) {
        0 if kind == HookKind::DidAcquire => Some(Wish { at: None, never: Some(true) }),
        0 | 1 => Some(Wish { at: Some(soon), never: None }),
        _ => None,
    };
    Moves { expires, storage: Some(books) }
}

/// How many have come, or gone, by the books.
pub fn count_of(books: &Storage, name: &str) -> u64 {
    books.get(name).and_then(|count| count.parse().ok()).unwrap_or(0)
}
