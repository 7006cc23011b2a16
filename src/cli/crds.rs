//! `drydock crds`: the definitions of the three kinds, for `kubectl apply`.

use super::{Exit, error::Error, print};
use crate::api::crds;
use std::{fs, path::PathBuf};

/// Flags of `drydock crds`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Write a file for each definition into this folder instead of printing them
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
}

/// Prints the definitions as YAML documents, or writes them as files.
pub fn run(args: &Args) -> Result<Exit, Error> {
    let files = files()?;
    let Some(folder) = &args.output_dir else {
        let documents: Vec<&str> = files.iter().map(|(_, text)| text.as_str()).collect();
        print::out(documents.join("---\n").trim_end())?;
        return Ok(Exit::Done);
    };
    fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.clone(), source })?;
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|source| Error::File { path, source })?;
    }
    Ok(Exit::Done)
}

/// Name and text of each file; named as controller-gen names them.
fn files() -> Result<Vec<(String, String)>, Error> {
    let files = crds::all()?.into_iter().map(|crd| {
        let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
        Ok((name, crds::yaml(&crd)?))
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_definitions_in_crds_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        let made = files().unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), made.len(), "files in {}", folder.display());
        for (name, text) in made {
            let kept = fs::read_to_string(folder.join(&name)).unwrap_or_default();
            assert!(kept == text, "crds/{name} is out of date: run `make crds`");
            // `kubectl apply` keeps the whole of it in an annotation, which holds 256 KiB.
            assert!(text.len() < 256 * 1024, "{name} is too large for kubectl apply: {} bytes", text.len());
        }
    }
}
