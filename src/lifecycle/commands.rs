//! The ledger of the command queue: which commands are not consumed yet, and how an outcome is recorded.

use crate::api::{
    Command, CommandType, LedgerEntry, MicroTime, Outcome,
    command::{self, LEDGER_LIMIT},
    word::Word,
};

/// What a command comes to: an outcome and why.
pub type Verdict = (Outcome, String);

/// The words for a `Release` of what is over, the same on a Lease and on a Resource (scenarios.md, 7).
pub const OVER_ALREADY: &str = "it is over already; nothing is left to release";

/// The words for a `Forget`, the same on a Lease and on a Resource.
pub const WRITTEN_OFF: &str = "written off without teardown: what is left of it is yours to remove; objects from templates that keep the \
                               label drydock.dev/owner are removed when their names are needed again, or their Resource ends";

/// The verdict `Applied`.
pub fn applied(message: impl Into<String>) -> Verdict {
    (Outcome::Applied, message.into())
}

/// The verdict `Refused`.
pub fn refused(message: impl Into<String>) -> Verdict {
    (Outcome::Refused, message.into())
}

/// The verdict `Ignored`.
pub fn ignored(message: impl Into<String>) -> Verdict {
    (Outcome::Ignored, message.into())
}

/// The verdict on a command of a type that this version does not know.
pub fn unknown(type_: Word) -> Verdict {
    refused(format!("this version of the controller does not know {}; upgrade it, and append again", type_.as_str()))
}

/// The commands of the version that was read which the ledger does not have, in list order (protocol.md, Q1).
pub fn unconsumed<'a>(queue: &'a [Command], ledger: &'a [LedgerEntry]) -> impl Iterator<Item = &'a Command> {
    queue
        .iter()
        .filter(move |command| !ledger.iter().any(|entry| entry.id == command.id))
        .take(if bug!(OneCommandAWrite) { 1 } else { usize::MAX })
}

/// Records what came of a command. Entries whose command is still in the spec stay; of the pruned ones the newest, as
/// many as there is room for: an id in the ledger is consumed, whatever reappears under it.
pub fn record(
    ledger: &mut Vec<LedgerEntry>,
    queue: &[Command],
    command: &Command,
    (outcome, message): Verdict,
    now: MicroTime,
) {
    ledger.push(LedgerEntry {
        id: command.id.clone(),
        type_: command.type_,
        outcome,
        message: shorten(message, 512),
        observed_at: now,
        issued_by: command.issued_by.clone(),
    });
    let limit = if bug!(ForgetsPruned) { 1 } else { LEDGER_LIMIT };
    let mut too_many = ledger.len().saturating_sub(limit);
    ledger.retain(|entry| {
        let forgotten = too_many > 0 && !queue.iter().any(|command| command.id == entry.id);
        too_many -= usize::from(forgotten);
        !forgotten
    });
}

/// A queue of so many commands is pruned of what is consumed: the API server takes no more than 64.
const NEARLY_FULL: usize = 48;

/// Whether the queue is nearly full, and consumed commands can make room in it.
pub fn wants_pruning(queue: &[Command], ledger: &[LedgerEntry]) -> bool {
    queue.len() >= NEARLY_FULL && unconsumed(queue, ledger).count() < queue.len()
}

/// Cuts a text to so many characters: a message from elsewhere must not make a status unwritable.
pub fn shorten(text: String, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text,
        Some(_) => text.chars().take(characters - 1).chain(['…']).collect(),
    }
}

/// Cuts a text to so many bytes: some bounds of the Kubernetes API count bytes, not characters.
pub fn shorten_bytes(mut text: String, bytes: usize) -> String {
    const ELLIPSIS: char = '…';
    if text.len() > bytes {
        while text.len() > bytes.saturating_sub(ELLIPSIS.len_utf8()) {
            text.pop();
        }
        text.push(ELLIPSIS);
    }
    text
}

/// Whether an unconsumed command of the object would end it: such an object is offered nothing new (protocol.md, L2).
pub fn is_ending(queue: &[Command], ledger: &[LedgerEntry]) -> bool {
    unconsumed(queue, ledger).any(|c| c.type_ == CommandType::Release)
}

/// How many commands one object can hold unconsumed; the ledger has room for each of them beside its own.
const _: () = assert!(command::QUEUE_LIMIT < LEDGER_LIMIT);

#[cfg(test)]
mod tests {
    use super::*;

    fn command(id: &str) -> Command {
        Command {
            id: id.into(),
            type_: CommandType::Release,
            reason: None,
            issued_by: None,
            hold: None,
            at: None,
            after: None,
            never: None,
        }
    }

    #[test]
    fn the_ledger_keeps_what_is_queued_and_the_newest_of_the_pruned() {
        let now = MicroTime::from(jiff::Timestamp::UNIX_EPOCH);
        let queue = vec![command("queued")];
        let mut ledger = Vec::new();
        record(&mut ledger, &queue, &queue[0], applied(""), now);
        for n in 0..200 {
            record(&mut ledger, &queue, &command(&format!("pruned-{n}")), ignored(""), now);
        }
        assert_eq!(ledger.len(), LEDGER_LIMIT);
        assert_eq!(ledger[0].id, "queued");
        assert_eq!(ledger[1].id, "pruned-73");
        assert_eq!(ledger.last().map(|e| e.id.as_str()), Some("pruned-199"));
    }

    #[test]
    fn an_id_in_the_ledger_is_consumed_whatever_reappears_under_it() {
        let queue = vec![command("a"), command("b")];
        let mut ledger = Vec::new();
        record(&mut ledger, &queue, &queue[0], applied(""), MicroTime::from(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(unconsumed(&queue, &ledger).map(|c| c.id.as_str()).collect::<Vec<_>>(), ["b"]);
        assert!(is_ending(&queue, &ledger));
        assert!(!is_ending(&queue[..1], &ledger));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shorten("äöü".into(), 3), "äöü");
        assert_eq!(shorten("äöüß".into(), 3), "äö…");
        assert_eq!(shorten_bytes("äöü".into(), 6), "äöü");
        assert_eq!(shorten_bytes("äöüß".into(), 7), "äö…");
        assert_eq!(shorten_bytes("äöüß".into(), 6), "ä…");
    }
}
