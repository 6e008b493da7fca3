//! Where the configuration file is.

use super::problem::{ConfigError, Problem};
use crate::error::codes;
use std::fmt;
use std::path::{Path, PathBuf};

/// The variable that names the file.
const VARIABLE: &str = "STRANDLINE_CONFIG";

/// Why a file was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// `--config`.
    Flag,
    /// `$STRANDLINE_CONFIG`.
    Variable,
    /// The first of the usual places that has one.
    Usual,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wanted::Flag => "--config",
            Wanted::Variable => "$STRANDLINE_CONFIG",
            Wanted::Usual => "found in a usual place",
        })
    }
}

/// A file that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Why this one.
    pub wanted: Wanted,
}

/// Finds the file: `flag`, `$STRANDLINE_CONFIG`, and unless `named_only` the usual places. `None`: there is
/// none. A named file is returned without looking whether it exists: reading it says so.
pub fn find(flag: Option<&Path>, named_only: bool, lookup: &dyn Fn(&str) -> Option<String>) -> Option<Found> {
    if let Some(path) = flag {
        return Some(Found { path: path.to_owned(), wanted: Wanted::Flag });
    }
    if let Some(path) = lookup(VARIABLE).filter(|text| !text.is_empty()) {
        return Some(Found { path: PathBuf::from(path), wanted: Wanted::Variable });
    }
    if named_only {
        return None;
    }
    let path = usual_places(lookup).into_iter().find(|path| path.is_file())?;
    Some(Found { path, wanted: Wanted::Usual })
}

/// The usual places, first one first.
fn usual_places(lookup: &dyn Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from("strandline.yaml")];
    let set = |name| lookup(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    places.extend(base.map(|base| base.join("strandline").join("strandline.yaml")));
    places.push(PathBuf::from("/etc/strandline/strandline.yaml"));
    places
}

/// What to say when there is none.
pub(crate) fn none_found(lookup: &dyn Fn(&str) -> Option<String>) -> ConfigError {
    let places = usual_places(lookup).iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    ConfigError::one(Problem::new(
        codes::CF001,
        format!("there is no configuration file; looked for --config, ${VARIABLE}, {places}"),
        "write one (docs/CONFIG.md), name it with --config FILE, or run without one:\n\
         strandline run postgres://user:password@host:5432/database file:///lake",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_flag_variable_usual_places() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let file = dir.path().join("strandline").join("strandline.yaml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "").unwrap();
        let with_variable = |name: &str| match name {
            VARIABLE => Some("/from/variable.yaml".to_owned()),
            "XDG_CONFIG_HOME" => Some(home.clone()),
            _ => None,
        };
        let without = |name: &str| with_variable(name).filter(|_| name != VARIABLE);
        let found = |flag, named_only, lookup: &dyn Fn(&str) -> Option<String>| {
            find(flag, named_only, lookup).map(|found| (found.path, found.wanted))
        };
        let flag = Path::new("/flag.yaml");
        assert_eq!(found(Some(flag), false, &with_variable), Some((flag.to_owned(), Wanted::Flag)));
        let variable = PathBuf::from("/from/variable.yaml");
        assert_eq!(found(None, true, &with_variable), Some((variable, Wanted::Variable)));
        assert_eq!(found(None, false, &without), Some((file, Wanted::Usual)));
        assert_eq!(found(None, true, &without), None);
        assert!(none_found(&without).report().contains("strandline/strandline.yaml"));
    }
}
