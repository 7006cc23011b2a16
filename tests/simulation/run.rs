//! One run: an API server, a world, one controller or two, people; faults for a while, then none, until the system is
//! silent. All of it is decided by the seed.

use crate::{
    actors::People,
    checks::{Checks, Wrong},
    faults::{Faults, Rates},
    journal::{Journal, What},
    random::Chance,
    rest,
    server::Server,
    stage::{self, Scene, Stage},
    time::{Clocks, ControllerClock},
    trouble,
    wire::Wire,
    world::{Flaws, InWorld, World},
};
use drydock::{
    controller::{self, options::Options},
    driver::{Drivers, hosts},
};
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

/// How often the controller of namespaces looks at those that are to go.
const SWEEP: Duration = Duration::from_secs(3);

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// How long people act and faults happen.
    pub trouble: Duration,
    /// Deliberate bugs of the driver.
    pub flaws: Flaws,
    /// Deliberate bugs on the API server's side of the wire.
    pub sabotage: crate::server::Sabotage,
    /// A deliberate bug of the controllers' clock: so far it is ahead of the time that the checks go by.
    pub early: Duration,
    /// Finalizers are forced off, whatever the seed says.
    pub forceful: bool,
    /// Watches are far behind, and resources go often, whatever the seed says.
    pub rough: bool,
    /// A scene that is played in place of people, chance and faults, with two controllers.
    pub scene: Option<Scene>,
}

impl Plan {
    /// Of a seed, with nothing wrong on purpose.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            trouble: Duration::from_secs(40 * 60),
            flaws: Flaws::default(),
            sabotage: Default::default(),
            early: Duration::ZERO,
            forceful: false,
            rough: false,
            scene: None,
        }
    }
}

/// What came of a run.
#[derive(Default)]
pub struct Outcome {
    /// What is wrong, with the story of the objects concerned. Empty: all is well.
    pub wrong: Option<String>,
    /// For a replay to be compared by.
    pub hash: u64,
    /// How many versions were written.
    pub versions: u64,
    /// How many times a controller was killed.
    pub crashes: usize,
    /// How many placements there were to be looked at.
    pub placements: usize,
    /// What a scene waited for in vain.
    pub in_vain: Option<String>,
}

/// Runs a plan.
pub fn simulate(plan: &Plan) -> Outcome {
    let _watch = trouble::Watch::begin();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // A panic of the simulation itself is told with its seed, like all that goes wrong.
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(plan))));
    ran.unwrap_or_else(|_| Outcome { wrong: trouble::first(), ..Outcome::default() })
}

async fn run(plan: &Plan) -> Outcome {
    let chance = Chance::new(plan.seed);
    let clocks = Clocks::new();
    let journal = Journal::new(clocks.clone());
    let mut rates = if plan.scene.is_some() { Rates::default() } else { Rates::drawn(&chance) };
    if plan.rough {
        (rates.stalled, rates.slow) = (60, 100);
    }
    let faults = Faults::new(rates, chance.clone());
    let server = Server::new(clocks.clone(), journal.clone(), chance.clone());
    server.sabotage(|sabotage| *sabotage = plan.sabotage);
    let world = World::new(journal.clone(), clocks.clone(), faults.clone(), plan.flaws);
    let mut people = People::new(server.clone(), world.clone(), chance.clone(), plan);
    people.make_namespaces();
    if plan.scene.is_none() {
        world.behaves(|habits| (habits.hooks, habits.books) = (chance.permille(500), chance.permille(700)));
        people.set_up();
    }

    let mut tasks = JoinSet::new();
    let crashes = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let lines = if plan.scene.is_some() { 2 } else { chance.within(1..3) };
    for line in 1..=lines {
        let house = House { server: server.clone(), world: world.clone(), faults: faults.clone(), early: plan.early };
        tasks.spawn(house.live(line, crashes.clone()));
    }
    let sweeper = server.clone();
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            sweeper.sweep();
        }
    });
    let mut checks = Checks::new(journal.clone());
    checks.now.drivers.hooks = world.habits().hooks;
    checks.now.controllers = lines as usize;
    let (mut wrong, mut in_vain) = (None, None);
    if let Some(scene) = plan.scene {
        let stage = Stage { server: server.clone(), faults: faults.clone(), people, fair: AtomicBool::new(false) };
        (wrong, in_vain) = stage.play(scene, &mut checks).await;
        people = stage.people;
    } else {
        let end = tokio::time::Instant::now() + plan.trouble;
        while tokio::time::Instant::now() < end && wrong.is_none() {
            tokio::time::sleep(people.pause()).await;
            people.act(&clocks);
            wrong = checks.catch_up();
            if clocks.goes_round() {
                break;
            }
        }
    }
    faults.stop();
    people.leave();
    clocks.set_right();
    journal.add(&"run".into(), What::Note("faults stop, everybody leaves, and the clock is set right".into()));
    if wrong.is_none() {
        wrong = rest::comes_to_rest(&server, &mut checks, plan.scene.map_or(rest::PATIENCE, |_| stage::PATIENCE)).await;
    }
    if wrong.is_none() && plan.scene.is_none() {
        journal.add(&"run".into(), What::Note("all is at rest; some more come".into()));
        wrong = rest::serves_newcomers(&server, &mut checks, &mut people).await;
    }
    tasks.abort_all();
    if clocks.goes_round() {
        let what = "a controller went round without end, in one instant".to_owned();
        wrong = Some(Wrong { what, uids: Vec::new() });
    }
    let wrong = wrong.map(|wrong| wrong.tell(&journal, &clocks));
    let versions = server.newest() - 100;
    Outcome {
        wrong,
        hash: journal.hash(),
        versions,
        crashes: crashes.load(Ordering::Relaxed),
        placements: checks.now.placements.looked_at,
        in_vain,
    }
}

/// Where a controller lives: when it is killed the next begins, some time later.
struct House {
    server: Arc<Server>,
    world: Arc<World>,
    faults: Arc<Faults>,
    early: Duration,
}

impl House {
    async fn live(self, line: u64, crashes: Arc<std::sync::atomic::AtomicUsize>) {
        for life in 1.. {
            let name = format!("controller-{line}.{life}");
            let controller = Controller::start(&self.server, &self.world, &self.faults, self.early, &name);
            controller.died.notified().await;
            controller.task.abort();
            crashes.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(self.faults.chance.milliseconds(10..90_000)).await;
        }
    }
}

/// A controller, as the binary runs it, but for its clock, its wire and its driver.
pub struct Controller {
    /// Whether it is killed: nothing that it has asked for is answered any more.
    dead: Arc<AtomicBool>,
    died: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Controller {
    /// One begins, under this name.
    pub fn start(server: &Arc<Server>, world: &Arc<World>, faults: &Arc<Faults>, early: Duration, name: &str) -> Self {
        let (dead, died) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let name: Arc<str> = name.into();
        let wire = Wire {
            server: server.clone(),
            faults: faults.clone(),
            name: name.clone(),
            dead: dead.clone(),
            died: died.clone(),
        };
        let driver = InWorld { world: world.clone(), by: name.clone(), dead: dead.clone() };
        let clock = ControllerClock { clocks: server.clocks.clone(), dead: dead.clone(), ahead: early };
        let options = Options {
            http_address: ([127, 0, 0, 1], 0).into(),
            shared_namespaces: vec!["shared".into()],
            namespaces: Vec::new(),
            key_secret: "drydock-key".into(),
            key_secret_namespace: None,
            leader_elect: false,
            leader_election_namespace: None,
            leader_election_name: String::new(),
        };
        // What users' expressions say is worked out in line: threads know no virtual time.
        let drivers = Drivers::default().with(Arc::new(hosts::Hosts)).with(Arc::new(driver));
        let client = kube::Client::new(wire, "default");
        let task = tokio::spawn(async move {
            let forever = std::future::pending();
            let ended = controller::run_through(client, &name, options, drivers, Arc::new(clock), forever).await;
            trouble::note(format!("{name} ended by itself: {ended:?}"));
        });
        Self { dead, died, task }
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}
