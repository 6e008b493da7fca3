//! Where the control socket of a pipeline is: `strandline-NAME-HASH.sock` in the first of `$STRANDLINE_RUNTIME_DIR`,
//! `$RUNTIME_DIRECTORY` (systemd), `$XDG_RUNTIME_DIR`, and a directory of this user's own below the temporary one. The hash is of
//! name and target: two pipelines of one name do not meet.

use crate::config::Config;
use crate::error::{Error, Result, codes};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The socket's path, and whether the directory is ours to make.
fn place(config: &Config) -> (PathBuf, bool) {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let given = ["STRANDLINE_RUNTIME_DIR", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"].into_iter().find_map(set);
    let (directory, is_own) = match given {
        Some(directory) => (directory, false),
        None => (std::env::temp_dir().join(format!("strandline-{}", uid().unwrap_or(0))), true),
    };
    let key = format!("{}\n{}", config.name, config.sink.target);
    let hash = xxhash_rust::xxh3::xxh3_64(key.as_bytes());
    // The system allows about a hundred bytes in all.
    let name: String = config.name.chars().take(24).collect();
    (directory.join(format!("strandline-{name}-{hash:016x}.sock")), is_own)
}

/// Who we are.
fn uid() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|meta| meta.uid())
}

/// Where a process of this pipeline on this machine listens, if one does.
pub(super) fn path(config: &Config) -> PathBuf {
    place(config).0
}

/// The same, with its directory made, which must be nobody else's.
///
/// Errors: RT002.
pub(super) fn prepare(config: &Config) -> Result<PathBuf> {
    let (path, is_own) = place(config);
    let Some(directory) = path.parent() else { return Ok(path) };
    if is_own {
        own(directory)?;
    }
    Ok(path)
}

fn own(directory: &Path) -> Result<()> {
    let shown = directory.display();
    if let Err(cause) = std::fs::DirBuilder::new().mode(0o700).create(directory)
        && cause.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(Error::new(codes::RT002, format!("cannot make the directory {shown}")).with_source(cause));
    }
    let meta = std::fs::symlink_metadata(directory)
        .map_err(|cause| Error::new(codes::RT002, format!("cannot look at {shown}")).with_source(cause))?;
    if !meta.is_dir() || Some(meta.uid()) != uid() || meta.mode() & 0o022 != 0 {
        let what = format!("the directory {shown} is another user's, or others may write to it");
        return Err(
            Error::new(codes::RT002, what).with_try("set STRANDLINE_RUNTIME_DIR to a directory of your own")
        );
    }
    Ok(())
}
