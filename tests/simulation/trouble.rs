//! What a controller survives, and what must not be all the same: a pass that panics, or that cannot be settled, is made
//! again, and what comes of it is right in the end. So nothing but this tells of it: while a run is watched, a panic on its
//! thread is noted, and what the controllers log of passes that failed for such reasons.

use std::{
    cell::{Cell, RefCell},
    fmt,
    sync::Once,
};
use tracing::{Event, Level, Metadata, Subscriber, field, level_filters::LevelFilter, span};

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static FIRST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Why a pass may fail only where there is a defect.
const DEFECTS: [&str; 3] = ["Panicked", "Unsettled", "Foreign"];

/// A run is watched as long as this lives.
pub struct Watch {
    _logs: tracing::subscriber::DefaultGuard,
}

impl Watch {
    /// Begins, on this thread.
    pub fn begin() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let tell = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if WATCHED.get() {
                    note(format!("something panicked: {}", info.to_string().replace('\n', " ")));
                }
                tell(info);
            }));
        });
        FIRST.take();
        WATCHED.set(true);
        Self { _logs: tracing::subscriber::set_default(Logs) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.set(false);
    }
}

/// The first trouble counts.
pub fn note(trouble: String) {
    FIRST.with_borrow_mut(|first| {
        first.get_or_insert(trouble);
    });
}

/// What has come up, if anything.
pub fn first() -> Option<String> {
    FIRST.with_borrow(Clone::clone)
}

/// What the controllers log, as far as it matters.
struct Logs;

impl Subscriber for Logs {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target() == "drydock::controller::shell"
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if DEFECTS.contains(&fields.reason.as_str()) {
            note(format!("a pass failed by a defect, {}: {}", fields.reason, fields.rest));
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Fields {
    reason: String,
    rest: String,
}

impl field::Visit for Fields {
    fn record_str(&mut self, field: &field::Field, value: &str) {
        if field.name() == "reason" {
            self.reason = value.to_owned();
        }
    }

    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        self.rest += &format!("{} {value:?} ", field.name());
    }
}
