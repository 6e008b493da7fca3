//! libpq's service file: named settings of connections, for `service=NAME` in a URL or `PGSERVICE`.
//!
//! ```text
//! [shop]
//! host=db.example
//! dbname=shop
//! user=strandline
//! sslmode=verify-full
//! ```
//!
//! The file that `PGSERVICEFILE` names is looked at first, or `~/.pg_service.conf`; then `pg_service.conf` in
//! `PGSYSCONFDIR`, or in `/etc/postgresql-common`. The first group of the name counts. What the URL says itself is not
//! replaced. Where libpq is silent we are not: a setting that is not understood is refused by name.

use super::model::TlsMode;
use super::problem::Refusal;
use super::secret::Secret;
use std::path::PathBuf;

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// libpq's limit on a line.
const LINE_LIMIT: usize = 1023;
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// What a service says.
#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) database: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) tls_mode: Option<TlsMode>,
    pub(super) tls_ca: Option<PathBuf>,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
}

/// Settings that change nothing of what we do: names that are shown, and waits that have bounds of their own here.
const WITHOUT_EFFECT: [&str; 9] = [
    "application_name",
    "fallback_application_name",
    "connect_timeout",
    "client_encoding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
];

impl Service {
    /// The service that a URL names, or else `PGSERVICE`.
    ///
    /// # Errors
    /// When there is no such service, or it says what is not understood.
    pub(super) fn load(named: Option<&str>, lookup: Lookup<'_>) -> Result<Option<Service>, Refusal> {
        let ambient = lookup("PGSERVICE").filter(|name| !name.is_empty());
        let Some(name) = named.map(str::to_owned).or(ambient) else { return Ok(None) };
        for (path, must_be_there) in files(lookup) {
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_be_there => continue,
                Err(error) => {
                    let what =
                        format!("names a service, and the file {} cannot be read ({error})", path.display());
                    return Err(Refusal::new(what, "check PGSERVICEFILE"));
                }
            };
            if let Some(service) = Service::find(&text, &name, &path.display().to_string())? {
                return Ok(Some(service));
            }
        }
        let looked: Vec<String> =
            files(lookup).into_iter().map(|(path, _)| path.display().to_string()).collect();
        Err(Refusal::new(
            format!("names the service \"{name}\", which no service file defines"),
            format!("add [{name}] to one of: {}", looked.join(", ")),
        ))
    }

    /// The first group of this name in the text of a file.
    fn find(text: &str, name: &str, file: &str) -> Result<Option<Service>, Refusal> {
        let mut found: Option<Service> = None;
        for (at, line) in text.lines().enumerate() {
            let refuse = |what: String| {
                let place = format!("names a service, and {file}:{} {what}", at + 1);
                Refusal::new(place, "mend the file, or write the settings into the URL")
            };
            if line.len() > LINE_LIMIT {
                return Err(refuse("is too long".to_owned()));
            }
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(group) = line.strip_prefix('[') {
                if found.is_some() {
                    break;
                }
                // As libpq compares: the name and the bracket behind it.
                let is_it = group.strip_prefix(name).is_some_and(|rest| rest.starts_with(']'));
                found = is_it.then(Service::default);
                continue;
            }
            let Some(service) = &mut found else { continue };
            if line.starts_with("ldap") {
                return Err(refuse("asks a directory by LDAP, which is not built".to_owned()));
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(refuse("is not KEY=VALUE".to_owned()));
            };
            service.set(key, value).map_err(refuse)?;
        }
        Ok(found)
    }

    /// The first of two settings of one key counts. An error says no value: it may be a password.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
        let path = || text().map(PathBuf::from);
        fn first<T>(place: &mut Option<T>, value: Option<T>) {
            *place = place.take().or(value);
        }
        match key {
            // libpq takes an address without a look at the name; it may stand in for it.
            "host" => first(&mut self.host, text()),
            "port" => {
                let port = value.parse::<u16>().ok().filter(|port| *port > 0);
                first(&mut self.port, Some(port.ok_or("has no port from 1 to 65535")?));
            }
            "dbname" => first(&mut self.database, text()),
            "user" => first(&mut self.user, text()),
            "password" => first(&mut self.password, text().map(Secret::new)),
            "sslmode" => {
                let mode = TlsMode::parse(value).ok_or("has an sslmode that is not allowed")?;
                first(&mut self.tls_mode, Some(mode));
            }
            "sslrootcert" if value == "system" => {}
            "sslrootcert" => first(&mut self.tls_ca, path()),
            "sslcert" => first(&mut self.tls_cert, path()),
            "sslkey" => first(&mut self.tls_key, path()),
            known if WITHOUT_EFFECT.contains(&known) => {}
            "service" => return Err("names another service".to_owned()),
            _ => return Err("has a setting that is not known".to_owned()),
        }
        Ok(())
    }
}

/// Where services are defined, and whether the file must be there.
fn files(lookup: Lookup<'_>) -> Vec<(PathBuf, bool)> {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let own = match set("PGSERVICEFILE") {
        Some(path) => Some((PathBuf::from(path), true)),
        None => set("HOME").map(|home| (PathBuf::from(home).join(".pg_service.conf"), false)),
    };
    let system = set("PGSYSCONFDIR").unwrap_or_else(|| SYSTEM_DIRECTORY.to_owned());
    own.into_iter().chain([(PathBuf::from(system).join("pg_service.conf"), false)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, name: &str) -> Result<Option<Service>, String> {
        Service::find(text, name, "f").map_err(|refusal| refusal.problem)
    }

    #[test]
    fn the_first_group_of_the_name_counts() {
        let text = "user=nobody\n[other]\nhost=x\n# a comment\n  [shop]  \nhost=db \nport=5433\n\ndbname=a=b\nhost=second\n\
                    password=p # w\nsslmode=verify-full\napplication_name=x\n[shop]\nhost=third\nuser=late\n";
        let service = found(text, "shop").unwrap().unwrap();
        assert_eq!((service.host.as_deref(), service.port), (Some("db"), Some(5433)));
        assert_eq!((service.database.as_deref(), service.user), (Some("a=b"), None));
        assert_eq!(service.password.unwrap().expose(), "p # w");
        assert_eq!(service.tls_mode, Some(TlsMode::VerifyFull));
        assert!(found(text, "sho").unwrap().is_none());
    }

    #[test]
    fn what_is_not_understood_is_refused_without_its_value() {
        for (line, what) in [
            ("hots=secret", "names a service, and f:2 has a setting that is not known"),
            ("host", "names a service, and f:2 is not KEY=VALUE"),
            ("port=70000", "names a service, and f:2 has no port from 1 to 65535"),
            ("sslmode=maybe", "names a service, and f:2 has an sslmode that is not allowed"),
            ("service=more", "names a service, and f:2 names another service"),
            ("gssencmode=disable", "names a service, and f:2 has a setting that is not known"),
            ("ldap://x/y", "names a service, and f:2 asks a directory by LDAP, which is not built"),
        ] {
            assert_eq!(found(&format!("[s]\n{line}\n"), "s").unwrap_err(), what);
        }
        // Of other services nobody asks.
        assert!(found("[t]\nhots=x\n[s]\nhost=h\n", "s").unwrap().is_some());
    }

    #[test]
    fn files_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let (own, system) = (dir.path().join("own"), dir.path().join("pg_service.conf"));
        std::fs::write(&own, "[a]\nhost=own\n").unwrap();
        std::fs::write(&system, "[a]\nhost=system\n[b]\nhost=system\n").unwrap();
        let lookup = |name: &str| match name {
            "PGSERVICEFILE" => Some(own.display().to_string()),
            "PGSYSCONFDIR" => Some(dir.path().display().to_string()),
            "PGSERVICE" => Some("b".to_owned()),
            _ => None,
        };
        let host = |named| Service::load(named, &lookup).unwrap().unwrap().host.unwrap();
        assert_eq!((host(Some("a")), host(None)), ("own".to_owned(), "system".to_owned()));
        let missing = Service::load(Some("c"), &lookup).unwrap_err();
        assert_eq!(missing.problem, "names the service \"c\", which no service file defines");
        assert!(Service::load(None, &|_| None).unwrap().is_none());
        std::fs::remove_file(&own).unwrap();
        assert!(Service::load(Some("b"), &lookup).is_err(), "a file that was named must be there");
    }
}
