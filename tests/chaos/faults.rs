//! Faults: controllers killed, paused and started again, with leader election and without; kube-apiserver and etcd killed.

use crate::{
    plan::Plan,
    random::Chance,
    recorder::Recorder,
    support::{ControlPlane, ControllerProcess, Identity, controller, controlplane::Server, metrics},
};
use jiff::Timestamp;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

/// What was done, and when.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

/// See [`Tally`].
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub kills: usize,
    pub pauses: usize,
    pub elected: usize,
    pub revived: usize,
    pub api_servers: usize,
    pub etcds: usize,
    pub conflicts: f64,
    pub errors: f64,
    /// While these lasted, something was wrong.
    pub faults: Vec<(Timestamp, Timestamp)>,
}

impl Counts {
    /// Whether each fault has happened.
    pub fn has_all(&self) -> bool {
        [self.kills, self.pauses, self.api_servers, self.etcds].iter().all(|count| *count > 0)
    }
}

impl Tally {
    pub fn add(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.0.lock().unwrap());
    }

    pub fn read(&self) -> Counts {
        self.0.lock().unwrap().clone()
    }
}

/// After a fault so long passes until all is as before: a watch begins anew, a term ends, a back-off is over.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// A controller that is maltreated.
pub struct Controller {
    number: u64,
    plane: Arc<ControlPlane>,
    plan: Plan,
    chance: Chance,
    recorder: Recorder,
    tally: Tally,
    process: ControllerProcess,
}

impl Controller {
    pub fn start(plane: &Arc<ControlPlane>, plan: Plan, number: u64, recorder: &Recorder, tally: &Tally) -> Controller {
        let process = begin(plane, false);
        let (plane, recorder, tally) = (plane.clone(), recorder.clone(), tally.clone());
        Controller { number, plane, plan, chance: plan.chance(number), recorder, tally, process }
    }

    /// Until it is over. It runs then, unpaused and without election.
    pub async fn suffer(mut self, mut over: watch::Receiver<bool>) -> ControllerProcess {
        // A short run, too, has one that is paused.
        let mut pauses = self.number == 0;
        while self.lives_for(self.plan.controllers.some(&self.chance), &mut over).await {
            self.aim().await;
            let from = Timestamp::now();
            if pauses {
                self.sleep(&mut over).await;
            } else {
                self.die(&mut over).await;
            }
            pauses = self.chance.permille(300);
            self.tally.add(|counts| counts.faults.push((from, Timestamp::now() + AFTERWARDS)));
        }
        self.is_well();
        self.count_up().await;
        self.process.kill9().await;
        self.process = begin(&self.plane, false);
        self.process.ready().await;
        self.process
    }

    /// Lets it work for a time; false, if it is over before. One that ends by itself is started again, as a Deployment does.
    async fn lives_for(&mut self, time: Duration, over: &mut watch::Receiver<bool>) -> bool {
        let until = tokio::time::Instant::now() + time;
        while !*over.borrow() {
            tokio::select! {
                biased;
                _ = over.wait_for(|over| *over) => {}
                _ = tokio::time::sleep_until(until) => {
                    self.is_well();
                    return true;
                }
                _ = self.process.ended() => self.revive(),
            }
        }
        false
    }

    /// It may end by itself where it is no longer elected, and nowhere else.
    fn revive(&mut self) {
        self.is_well();
        let last = self.process.tail().lines().last().unwrap_or_default().to_owned();
        assert!(
            last.contains("another controller was elected"),
            "a controller ended by itself:\n{}",
            self.process.tail()
        );
        self.recorder.tell(&format!("controller {} ended by itself: {last}", self.number));
        self.tally.add(|counts| counts.revived += 1);
        self.process = begin(&self.plane, true);
    }

    /// More often than not strikes where it hurts: when something is about to be done outside, is under way, or just done.
    async fn aim(&self) {
        let (aims, after) = (self.chance.permille(700), self.chance.milliseconds(0..25));
        if aims {
            let _ = tokio::time::timeout(Duration::from_secs(3), self.recorder.moment()).await;
            tokio::time::sleep(after).await;
        }
    }

    /// Nothing but a signal ends it, and no worker of it panics.
    fn is_well(&mut self) {
        let log = self.process.log();
        assert!(!log.contains("panicked"), "a controller panicked:\n{}", self.process.tail());
    }

    /// Frozen for longer than a term of leadership.
    async fn sleep(&mut self, over: &mut watch::Receiver<bool>) {
        let minute = self.chance.permille(self.plan.long_pauses);
        let time = if minute { Duration::from_secs(62) } else { self.plan.pause.some(&self.chance) };
        self.recorder.tell(&format!("controller {} is paused for {time:.1?}", self.number));
        self.process.sigstop();
        self.tally.add(|counts| counts.pauses += 1);
        pause(time, over).await;
        self.process.sigcont();
        self.recorder.tell(&format!("controller {} goes on", self.number));
    }

    async fn die(&mut self, over: &mut watch::Receiver<bool>) {
        self.recorder.tell(&format!("controller {} is killed", self.number));
        self.count_up().await;
        self.process.kill9().await;
        self.tally.add(|counts| counts.kills += 1);
        pause(self.chance.milliseconds(0..2_000), over).await;
        let elect = self.chance.permille(350);
        self.tally.add(|counts| counts.elected += usize::from(elect));
        self.recorder.tell(&format!("controller {} starts, with election: {elect}", self.number));
        self.process = begin(&self.plane, elect);
    }

    /// What it has counted by now, for it forgets that as it dies.
    async fn count_up(&mut self) {
        count_up(&mut self.process, &self.tally).await;
    }
}

/// Adds what a controller has counted.
pub async fn count_up(process: &mut ControllerProcess, tally: &Tally) {
    if !process.log().contains("listening on") {
        return; // it has not begun
    }
    let ask = async {
        process.listens().await;
        controller::get(process.address(), "/metrics").await
    };
    let Ok(Ok((_, text))) = tokio::time::timeout(Duration::from_secs(2), ask).await else { return };
    tally.add(|counts| {
        counts.conflicts += metrics::sum(&text, "drydock_status_conflicts_total", &[]);
        counts.errors += metrics::sum(&text, "drydock_pass_errors_total", &[]);
    });
}

fn begin(plane: &ControlPlane, elect: bool) -> ControllerProcess {
    let election = ["--leader-elect", "--leader-election-namespace", "drydock-system"];
    ControllerProcess::begin(plane, Identity::Controller, &[], if elect { &election } else { &[] })
}

/// Kills a server now and then, until it is over.
pub async fn servers(
    plane: Arc<ControlPlane>,
    plan: Plan,
    recorder: Recorder,
    tally: Tally,
    mut over: watch::Receiver<bool>,
) {
    let chance = plan.chance(50);
    // Each in turn at first, so that a short run has both.
    let mut etcd_next = false;
    while pause(plan.servers.some(&chance), &mut over).await {
        let server = if etcd_next { Server::Etcd } else { Server::ApiServer };
        let from = Timestamp::now();
        recorder.tell(&format!("{server:?} is killed"));
        plane.knock_out(server).await.expect("it was there");
        pause(chance.milliseconds(0..3_000), &mut over).await;
        plane.come_back(server).await.expect("it comes back");
        recorder.tell(&format!("{server:?} serves again"));
        tally.add(|counts| {
            counts.faults.push((from, Timestamp::now() + AFTERWARDS));
            match server {
                Server::Etcd => counts.etcds += 1,
                Server::ApiServer => counts.api_servers += 1,
            }
        });
        etcd_next = !etcd_next;
    }
}

/// Lets time pass; false, if it is over before.
async fn pause(time: Duration, over: &mut watch::Receiver<bool>) -> bool {
    if *over.borrow() {
        return false;
    }
    tokio::time::timeout(time, over.wait_for(|over| *over)).await.is_err()
}
