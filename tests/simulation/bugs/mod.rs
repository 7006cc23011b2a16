//! The checks can fail: bugs that are made on purpose, one at a time, and each is caught within a stated number of seeds.
//! Those in Drydock itself need the feature `deliberate-bugs`; those of the driver, of the clock and of what comes to the API
//! server are made here.

mod table;

use crate::{
    run::{Plan, simulate},
    stage::Scene,
};
use drydock::deliberate::Bug;
use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};
use table::TABLE;

/// A change of the plan.
type Change = fn(&mut Plan);

/// A bug, and how it is to be caught.
struct Row {
    /// The rule that it breaks.
    rule: &'static str,
    bug: Made,
    /// Within how many seeds: twice what was needed; never less than ten, or six in a scene, where only latencies differ.
    within: u64,
    setting: Setting,
    /// How what is told begins, or what is in it, where it is told by a check that belongs to the rule. What else goes wrong
    /// with a bug is no proof that its rule is checked.
    by: &'static [&'static str],
}

/// Where a bug is made.
#[derive(Clone, Copy)]
enum Made {
    Inside(Bug),
    Outside(&'static str, Change),
}

/// What brings bugs out, and is none itself.
#[derive(Clone, Copy)]
struct Setting {
    name: &'static str,
    change: Change,
    scene: Option<Scene>,
}

impl Setting {
    fn plan(&self, seed: u64) -> Plan {
        let mut plan = Plan { scene: self.scene, ..Plan::new(seed) };
        (self.change)(&mut plan);
        plan
    }
}

impl Row {
    fn name(&self) -> String {
        match self.bug {
            Made::Inside(bug) => format!("{bug:?}"),
            Made::Outside(what, _) => what.to_owned(),
        }
    }

    fn is_made_inside(&self) -> bool {
        matches!(self.bug, Made::Inside(_))
    }

    fn plan(&self, seed: u64) -> Plan {
        let mut plan = self.setting.plan(seed);
        if let Made::Outside(_, change) = self.bug {
            change(&mut plan);
        }
        plan
    }

    /// From now on the bug is made, on this thread.
    fn make(&self) {
        #[cfg(feature = "deliberate-bugs")]
        drydock::deliberate::make(match self.bug {
            Made::Inside(bug) => Some(bug),
            Made::Outside(..) => None,
        });
    }

    /// Whether the place was reached where it is made. One that has none is no bug, and what catches it is no check.
    fn was_made(&self) -> bool {
        #[cfg(feature = "deliberate-bugs")]
        return !self.is_made_inside() || drydock::deliberate::was_made();
        #[cfg(not(feature = "deliberate-bugs"))]
        !self.is_made_inside()
    }

    fn is_caught_by(&self, told: &str) -> bool {
        self.by.iter().any(|by| told.contains(by))
    }

    /// The first seed that catches the bug rightly, and what is told; and before that, what else was.
    fn caught(&self) -> (Option<Told>, Vec<Told>) {
        let within = std::env::var("WITHIN").ok().and_then(|n| n.parse().ok()).unwrap_or(self.within);
        let mut otherwise = Vec::new();
        for seed in 1..=within {
            let Some(wrong) = simulate(&self.plan(seed)).wrong else { continue };
            let told = (seed, wrong.lines().next().unwrap_or_default().to_owned());
            if self.is_caught_by(&told.1) {
                return (Some(told), otherwise);
            }
            otherwise.push(told);
        }
        (None, otherwise)
    }
}

/// A seed, and what is told of it.
type Told = (u64, String);

/// What came of a row.
struct Tried {
    caught: Option<Told>,
    otherwise: Vec<Told>,
    was_made: bool,
    time: Duration,
}

impl Tried {
    fn is_right(&self) -> bool {
        self.caught.is_some() && self.was_made
    }

    fn line(&self, row: &Row) -> String {
        let (seed, by) = match &self.caught {
            Some((seed, by)) => (seed.to_string(), by.chars().take(100).collect()),
            None => ("-".to_owned(), "NOT CAUGHT".to_owned()),
        };
        let by = if self.was_made { by } else { format!("NOT MADE ANYWHERE ({by})") };
        let otherwise: String =
            self.otherwise.iter().map(|(seed, by)| format!("; in seed {seed} otherwise: {by}")).collect();
        let by = by + &otherwise;
        let (rule, name, setting, within) = (row.rule, row.name(), row.setting.name, row.within);
        format!("{rule:<8} {name:<46} {setting:<28} {seed:>3} of {within:<3} {:>6.1} s  {by}", self.time.as_secs_f64())
    }
}

/// Which bugs are asked for: all whose names have `BUG` in them, as far as this build can make them.
fn rows() -> Vec<&'static Row> {
    let asked = std::env::var("BUG").unwrap_or_default();
    let can_be_made = |row: &&Row| cfg!(feature = "deliberate-bugs") || !row.is_made_inside();
    TABLE.iter().filter(can_be_made).filter(|row| row.name().contains(&asked)).collect()
}

#[test]
#[ignore = "takes minutes; make deliberate-bugs"]
fn each_bug_is_caught() {
    are_caught(&rows());
}

/// Those that need no feature are made whenever the tests run.
#[test]
fn each_bug_from_outside_is_caught() {
    are_caught(&TABLE.iter().filter(|row| !row.is_made_inside()).collect::<Vec<_>>());
}

fn are_caught(rows: &[&'static Row]) {
    let began = Instant::now();
    let tried = Mutex::new(BTreeMap::new());
    crate::each_side_by_side(0..rows.len() as u64, |n| {
        let (row, began) = (rows[n as usize], Instant::now());
        row.make();
        let (caught, otherwise) = row.caught();
        let outcome = Tried { caught, otherwise, was_made: row.was_made(), time: began.elapsed() };
        println!("{}", outcome.line(row));
        tried.lock().unwrap().insert(n, outcome);
    });
    let tried = tried.into_inner().unwrap();
    println!("rule     bug {:42} setting {:20} seed  within   time   by", "", "");
    for (row, tried) in rows.iter().zip(tried.values()) {
        println!("{}", tried.line(row));
    }
    println!("{} bugs in {:.0?}", rows.len(), began.elapsed());
    let wrong = rows.iter().zip(tried.values()).filter(|(_, tried)| !tried.is_right());
    let wrong: Vec<_> = wrong.map(|(row, tried)| tried.line(row)).collect();
    assert!(wrong.is_empty(), "not caught, or not made: {wrong:#?}");
}

/// What brings the bugs out is none itself.
#[test]
#[ignore = "takes minutes; make deliberate-bugs"]
fn without_a_bug_nothing_is_caught() {
    nothing_is_caught(6, |_| true);
}

/// Nor are scenes, and they come to where they are to come.
#[test]
fn scenes_come_to_their_ends() {
    let placements = nothing_is_caught(2, |setting| setting.scene.is_some());
    // A check that never comes to look at anything checks nothing.
    assert!(placements.get("placed_where_it_is_full").is_some_and(|looked_at| *looked_at > 0), "{placements:?}");
}

/// Plays these settings of the table without a bug, with so many seeds each. Returns how many placements were looked at in each.
fn nothing_is_caught(seeds: u64, are: impl Fn(&Setting) -> bool) -> BTreeMap<&'static str, usize> {
    let settings: BTreeMap<_, _> = TABLE.iter().map(|row| (row.setting.name, row.setting)).collect();
    let settings: Vec<_> = settings.into_values().filter(are).collect();
    let (failed, placements) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::new()));
    crate::each_side_by_side(0..settings.len() as u64 * seeds, |n| {
        let (setting, seed) = (settings[(n / seeds) as usize], n % seeds + 1);
        let name = setting.name;
        let outcome = simulate(&setting.plan(seed));
        *placements.lock().unwrap().entry(name).or_default() += outcome.placements;
        if let Some(wrong) = outcome.in_vain.or(outcome.wrong) {
            println!("{name}, seed {seed}: {wrong}");
            failed.lock().unwrap().push((name, seed));
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "settings and seeds that went wrong: {failed:?}");
    placements.into_inner().unwrap()
}

/// No bug that can be made is forgotten.
#[test]
fn each_bug_is_in_the_table() {
    let in_table = |bug: &Bug| TABLE.iter().any(|row| matches!(row.bug, Made::Inside(made) if made == *bug));
    let forgotten: Vec<_> = Bug::ALL.iter().filter(|bug| !in_table(bug)).collect();
    assert!(forgotten.is_empty(), "in no row of the table: {forgotten:?}");
}
