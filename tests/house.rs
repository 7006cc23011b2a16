//! The house stands as it was designed: who may know whom, and what each room must not do. The map is in CONTRIBUTING.md.
//!
//! These read the sources as tokens, so that a comment or a text may say anything.

#![allow(clippy::unwrap_used)] // also in the helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The rooms, and whom each of them may know. The files beside them, `main.rs` and `lib.rs`, know all.
const ROOMS: [(&str, &[&str]); 8] = [
    ("api", &[]),
    ("cluster", &[]),
    ("expression", &[]),
    ("lifecycle", &["api"]),
    ("driver", &["api", "expression"]),
    ("controller", &["api", "cluster", "expression", "lifecycle", "driver"]),
    ("cli", &["api", "cluster"]),
    ("console", &["api"]),
];

/// What has no place in pure decisions: waiting, clocks, locks, clients.
const IMPURE: [&str; 12] =
    ["async", "await", "tokio", "futures", "Instant", "SystemTime", "Mutex", "RwLock", "Client", "Api", "thread", "fs"];

#[test]
fn arrows_between_rooms_point_downwards() {
    assert_none(forbidden_arrows);
}

#[test]
fn the_lifecycle_is_pure() {
    assert_none(impurities);
}

#[test]
fn only_the_writer_writes_status() {
    assert_none(status_writes);
}

#[test]
fn every_select_is_biased() {
    assert_none(unbiased_selects);
}

#[test]
fn the_rules_bite() {
    let arrows: [(&str, &str); 13] = [
        ("src/api/lease.rs", "use crate::lifecycle::lease;"),
        ("src/lifecycle/lease.rs", "use crate::{api::Lease, driver::{self, Driver}};"),
        ("src/lifecycle/mod.rs", "use super::controller;"),
        ("src/driver/hosts.rs", "fn f() { super::super::lifecycle::lease::decide() }"),
        ("src/driver/hosts.rs", "use super::{super::{api, console}};"),
        ("src/driver/hosts.rs", "mod tests { use super::super::super::cli; }"),
        ("src/driver/hosts.rs", "use self::super::super::cli;"),
        ("src/cli/release.rs", "pub use drydock::controller::Options;"),
        ("src/console/mod.rs", "use crate::*;"),
        ("src/console/mod.rs", "use crate as everything;"),
        ("src/console/mod.rs", "use crate::{self as root};"),
        ("src/controller/mod.rs", "use crate::cli;"),
        ("src/attic/mod.rs", ""),
    ];
    for (path, text) in arrows {
        assert_eq!(forbidden_arrows(&source(path, text)).len(), 1, "{path}: {text}");
    }
    for text in [
        "async fn decide() {}",
        "let now = jiff::Timestamp::now();",
        "use std::time::SystemTime;",
        "static CACHE: std::sync::Mutex<()>;",
    ] {
        assert!(!impurities(&source("src/lifecycle/lease.rs", text)).is_empty(), "{text}");
    }
    assert_eq!(status_writes(&source("src/controller/work.rs", "api.replace_status(n, &pp, &next).await")).len(), 1);
    assert_eq!(status_writes(&source("src/cli/lease.rs", "api.patch_status(n, &pp, &next).await")).len(), 1);
    let text = "loop { tokio::select! { _ = stop => {} } }";
    assert_eq!(unbiased_selects(&source("src/controller/mod.rs", text)).len(), 1);
}

#[test]
fn the_rules_let_pass_what_is_right() {
    let arrows = [
        ("src/main.rs", "use drydock::{api, cli, controller}; mod x { use crate::cli; }"),
        (
            "src/api/lease.rs",
            "/// See crate::lifecycle.\npub(crate) struct A; use super::common::{self, *}; const A: &str = \"crate::cli\";",
        ),
        ("src/lifecycle/resource/asked.rs", "pub(in crate::lifecycle) fn f() { super::super::lease::f() }"),
        ("src/lifecycle/resource/asked.rs", "mod tests { use super::super::super::lease; use crate::api::Lease; }"),
        ("src/controller/mod.rs", "use crate::{api::{Lease, lease,}, driver, expression::*, lifecycle as life};"),
    ];
    for (path, text) in arrows {
        assert_eq!(forbidden_arrows(&source(path, text)), Vec::<String>::new(), "{text}");
    }
    assert!(
        impurities(&source("src/lifecycle/lease.rs", "// tokio\nfn f(now: Timestamp) { Seen { at: now, x: x.now } }"))
            .is_empty()
    );
    assert!(impurities(&source("src/controller/mod.rs", "async fn f() { Timestamp::now() }")).is_empty());
    assert!(status_writes(&source("src/controller/writer.rs", "api.replace_status(n, &pp, &next).await")).is_empty());
    assert!(status_writes(&source("src/controller/pass.rs", "self.writer.replace_status(&next).await")).is_empty());
    assert!(unbiased_selects(&source("src/cli/a.rs", "select! { biased; _ = stop => {} }")).is_empty());
}

/// A file of `src/`.
struct Source {
    path: String,
    tokens: Vec<TokenTree>,
}

impl Source {
    /// The room that it is in; nothing for the files beside the rooms.
    fn room(&self) -> Option<&str> {
        let (room, _) = self.path.strip_prefix("src/").unwrap().split_once('/')?;
        Some(room)
    }

    /// The module that it is, from the root of the crate.
    fn module(&self) -> Vec<String> {
        let path = self.path.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap();
        let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
        if matches!(module.last().unwrap().as_str(), "mod" | "lib" | "main") {
            module.pop();
        }
        module
    }
}

fn source(path: &str, text: &str) -> Source {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
    Source { path: path.to_owned(), tokens: tokens.into_iter().collect() }
}

/// Fails with all that a rule finds in the sources.
fn assert_none(rule: fn(&Source) -> Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![];
    files_below(&root.join("src"), &mut files);
    assert!(!files.is_empty());
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let path = file.strip_prefix(root).unwrap().to_str().unwrap();
            rule(&source(path, &fs::read_to_string(file).unwrap()))
        })
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn forbidden_arrows(source: &Source) -> Vec<String> {
    let Some(room) = source.room() else { return vec![] };
    let Some((_, known)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: the house has no room {room}", source.path)];
    };
    let mut arrows = vec![];
    find_arrows(&source.tokens, &source.module(), &mut arrows);
    arrows.retain(|(to, _)| to != room && !known.contains(&to.as_str()));
    arrows.into_iter().map(|(to, line)| format!("{}:{line}: {room} must not know {to}", source.path)).collect()
}

/// Where an arrow points, and the line.
type Arrow = (String, usize);

/// Finds every path that begins with `crate`, `drydock`, `super` or `self`, in imports and in between.
fn find_arrows(tokens: &[TokenTree], module: &[String], arrows: &mut Vec<Arrow>) {
    let mut i = 0;
    while i < tokens.len() {
        match &tokens[i..] {
            [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(body), ..]
                if word == "mod" && body.delimiter() == Delimiter::Brace =>
            {
                let inner = [module, &[name.to_string()]].concat();
                find_arrows(&content(body), &inner, arrows);
                i += 3;
            }
            [TokenTree::Ident(root), next, ..] if root == "crate" && is_word(next, "as") => {
                arrows.push(("everything".to_owned(), root.span().start().line));
                i += 2;
            }
            [TokenTree::Ident(root), rest @ ..]
                if (root == "crate" || root == "drydock" || root == "super" || root == "self") && is_path(rest) =>
            {
                let base = if root == "crate" || root == "drydock" { &[] } else { module };
                i += follow(&tokens[i..], base, arrows);
            }
            [TokenTree::Group(group), ..] => {
                find_arrows(&content(group), module, arrows);
                i += 1;
            }
            _ => i += 1,
        }
    }
}

/// Follows one path, from a module on, to the room it leads to; a group leads to several. Returns how many tokens it has.
fn follow(tokens: &[TokenTree], base: &[String], arrows: &mut Vec<Arrow>) -> usize {
    let mut base = base.to_vec();
    let mut i = 0;
    while let Some(token) = tokens.get(i) {
        match token {
            TokenTree::Ident(word) if word == "super" => drop(base.pop()),
            TokenTree::Ident(word) if word == "self" || word == "crate" || word == "drydock" => {}
            TokenTree::Ident(name) => {
                let room = base.first().cloned().unwrap_or_else(|| name.to_string());
                arrows.push((room, name.span().start().line));
                return i + 1;
            }
            TokenTree::Group(group) => {
                for part in content(group).split(|token| is_sign(token, ',')).filter(|part| !part.is_empty()) {
                    follow(part, &base, arrows);
                }
                return i + 1;
            }
            other => {
                let room = base.first().cloned().unwrap_or_else(|| "everything".to_owned());
                arrows.push((room, other.span().start().line));
                return i + 1;
            }
        }
        i += 1;
        if !is_path(&tokens[i..]) {
            break;
        }
        i += 2;
    }
    if base.is_empty() {
        arrows.push(("everything".to_owned(), tokens[0].span().start().line)); // `use crate::{self as root}`
    }
    i
}

fn impurities(source: &Source) -> Vec<String> {
    if source.room() != Some("lifecycle") {
        return vec![];
    }
    let mut found = vec![];
    each_run(&source.tokens, &mut |_, tokens| {
        let clock = is_path(tokens) && tokens.get(2).is_some_and(|token| is_word(token, "now"));
        if clock || IMPURE.iter().any(|word| is_word(&tokens[0], word)) {
            let line = tokens[0].span().start().line;
            let what = tokens[if clock { 2 } else { 0 }].to_string();
            found.push(format!("{}:{line}: `{what}` has no place in pure decisions", source.path));
        }
    });
    found
}

fn status_writes(source: &Source) -> Vec<String> {
    let mut found = vec![];
    each_run(&source.tokens, &mut |before, tokens| {
        let writes = is_word(&tokens[0], "replace_status") || is_word(&tokens[0], "patch_status");
        let asks_the_writer = matches!(before, [.., writer, dot] if is_word(writer, "writer") && is_sign(dot, '.'));
        if writes && !asks_the_writer && source.path != "src/controller/writer.rs" {
            let line = tokens[0].span().start().line;
            found.push(format!("{}:{line}: status is written by controller/writer.rs alone", source.path));
        }
    });
    found
}

fn unbiased_selects(source: &Source) -> Vec<String> {
    let mut found = vec![];
    each_run(&source.tokens, &mut |_, tokens| {
        if let [select, sign, TokenTree::Group(body), ..] = tokens
            && is_word(select, "select")
            && is_sign(sign, '!')
            && !content(body).first().is_some_and(|token| is_word(token, "biased"))
        {
            let line = select.span().start().line;
            // A random branch order cannot be replayed by the simulation.
            found.push(format!("{}:{line}: `select!` must begin with `biased;`", source.path));
        }
    });
    found
}

/// Calls for each token with those before it, and with it and those after it, in its group; also inside of groups.
fn each_run(tokens: &[TokenTree], see: &mut impl FnMut(&[TokenTree], &[TokenTree])) {
    for i in 0..tokens.len() {
        see(&tokens[..i], &tokens[i..]);
        if let TokenTree::Group(group) = &tokens[i] {
            each_run(&content(group), see);
        }
    }
}

fn content(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_sign(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// Whether `::` comes next.
fn is_path(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [a, b, ..] if is_sign(a, ':') && is_sign(b, ':'))
}
