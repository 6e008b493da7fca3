//! libpq's password file: `$PGPASSFILE`, or `~/.pgpass`.
//!
//! Lines `host:port:database:user:password`; `*` stands for anything, `\` makes the next character plain, `#` begins a
//! comment. The first line that fits counts. A file that others may read is not used, as by libpq.

use super::options::{Endpoint, Secret};
use crate::error::{Error, Result, codes};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The password for this place and user, if the file has one.
///
/// # Errors
/// `CF003` when the file that `PGPASSFILE` names cannot be read.
pub async fn password(endpoint: &Endpoint, database: &str, user: &str) -> Result<Option<Secret>> {
    let named = std::env::var_os("PGPASSFILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".pgpass"));
    let is_named = named.is_some();
    let Some(path) = named.or_else(home) else { return Ok(None) };
    let unreadable = |cause: std::io::Error| {
        let what = format!("cannot read the password file \"{}\"", path.display());
        Error::new(codes::CF003, what).with_source(cause).with_try("check PGPASSFILE")
    };
    let metadata = match tokio::fs::metadata(&path).await {
        Ok(metadata) if metadata.is_file() => metadata,
        Err(cause) if is_named => return Err(unreadable(cause)),
        Ok(_) | Err(_) => return Ok(None),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "the password file is not used: others may read it (chmod 600)");
        return Ok(None);
    }
    let text = tokio::fs::read_to_string(&path).await.map_err(unreadable)?;
    Ok(find(&text, endpoint, database, user))
}

fn find(text: &str, endpoint: &Endpoint, database: &str, user: &str) -> Option<Secret> {
    let (hosts, port) = match endpoint {
        Endpoint::Tcp { host, port } => (vec![host.clone()], *port),
        Endpoint::Unix { directory, port } => {
            (vec![directory.display().to_string(), "localhost".to_owned()], *port)
        }
    };
    let port = port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        let mut fits = |wanted: &[&str]| {
            let (field, is_any, behind) = field(rest);
            rest = behind;
            is_any || wanted.contains(&field.as_str())
        };
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let all = [fits(&hosts), fits(&[port.as_str()]), fits(&[database]), fits(&[user])];
        let (password, _, _) = field(rest);
        (all == [true; 4] && !password.is_empty()).then(|| Secret::new(password))
    })
}

/// The next field, whether it is a bare `*`, and what stands behind its colon.
fn field(line: &str) -> (String, bool, &str) {
    let mut text = String::new();
    let mut characters = line.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => return (text, line.get(..at) == Some("*"), line.get(at + 1..).unwrap_or_default()),
            '\\' => text.extend(characters.next().map(|(_, plain)| plain)),
            plain => text.push(plain),
        }
    }
    (text, line == "*", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(host: &str) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port: 5432 }
    }

    fn found(text: &str, endpoint: &Endpoint) -> Option<String> {
        find(text, endpoint, "shop", "me").map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# db:5432:shop:me:no\ndb:5433:shop:me:port\nother:*:*:*:host\ndb:5432:shop:you:user\n\
                    db:*:shop:me:a\\:b\\\\c\n*:*:*:*:any\n";
        assert_eq!(found(text, &at("db")).as_deref(), Some("a:b\\c"));
        assert_eq!(found(text, &at("else")).as_deref(), Some("any"));
        assert_eq!(found("db:5432:shop:me:", &at("db")), None, "no password is none");
        assert_eq!(found("db:5432:shop", &at("db")), None);
        assert_eq!(found("\\*:*:*:*:x", &at("db")), None, "a star that is plain");
        assert_eq!(found("\\:\\:1:*:*:*:x", &at("::1")).as_deref(), Some("x"));
        let socket = Endpoint::Unix { directory: "/run/pg".into(), port: 5432 };
        assert_eq!(found("localhost:5432:*:me:x", &socket).as_deref(), Some("x"));
        assert_eq!(found("/run/pg:5432:*:me:y", &socket).as_deref(), Some("y"));
    }

    proptest! {
        /// Whatever stands in a name: written with its escapes, it is found again.
        #[test]
        fn what_is_escaped_is_found(host in ".{1,12}", password in ".{1,20}") {
            prop_assume!(!host.contains(['\n', '\r']) && !password.contains(['\n', '\r']));
            let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:").replace('*', "\\*").replace('#', "\\#");
            let line = format!("{}:5432:shop:me:{}", escaped(&host), escaped(&password));
            prop_assert_eq!(found(&line, &at(&host)), Some(password));
        }
    }
}
