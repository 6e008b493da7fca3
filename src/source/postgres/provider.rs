//! Who runs the server: the remedy for one and the same setting is a statement here, a parameter group there.

use super::sql::{Sql, text};
use crate::error::Result;
use std::fmt;

/// Who runs the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Provider {
    /// Somebody with a superuser.
    SelfManaged,
    /// Amazon RDS.
    Rds,
    /// Amazon Aurora.
    Aurora,
    /// Google Cloud SQL.
    CloudSql,
    /// Google AlloyDB.
    AlloyDb,
    /// Azure Database for PostgreSQL.
    Azure,
    /// Supabase.
    Supabase,
    /// Neon.
    Neon,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Provider::SelfManaged => "self-managed",
            Provider::Rds => "Amazon RDS",
            Provider::Aurora => "Amazon Aurora",
            Provider::CloudSql => "Google Cloud SQL",
            Provider::AlloyDb => "Google AlloyDB",
            Provider::Azure => "Azure Database for PostgreSQL",
            Provider::Supabase => "Supabase",
            Provider::Neon => "Neon",
        })
    }
}

/// Roles that only one provider's servers have; the first that is found decides.
const ROLES: [(&str, Provider); 6] = [
    ("rdsadmin", Provider::Rds),
    ("cloudsqladmin", Provider::CloudSql),
    ("alloydbadmin", Provider::AlloyDb),
    ("azuresu", Provider::Azure),
    ("supabase_admin", Provider::Supabase),
    ("neon_superuser", Provider::Neon),
];

/// What a changed setting needs before it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// The configuration is read again.
    Reload,
    /// The server is started again.
    Restart,
}

/// How to change a setting: for people, and as statements where there are any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remedy {
    /// For people.
    pub text: String,
    /// Statements.
    pub sql: Vec<String>,
}

impl Provider {
    /// Asks the server.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn detect(sql: &Sql) -> Result<Provider> {
        let names: Vec<String> = ROLES.iter().map(|(role, _)| format!("'{role}'")).collect();
        let query = format!(
            "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ({}) UNION ALL \
             SELECT proname FROM pg_catalog.pg_proc WHERE proname = 'aurora_version'",
            names.join(", ")
        );
        let rows = sql.rows(&query).await?;
        let has = |name: &str| rows.iter().any(|row| text(row, 0) == Some(name));
        if has("aurora_version") {
            return Ok(Provider::Aurora);
        }
        let known = ROLES.iter().find(|(role, _)| has(role));
        Ok(known.map_or(Provider::SelfManaged, |(_, provider)| *provider))
    }

    /// How `name` becomes `value` here.
    pub fn set(self, name: &str, value: &str, takes: Takes) -> Remedy {
        let (name, value) = self.own_name(name, value);
        let then = match (self, takes) {
            (_, Takes::Reload) => "",
            (Provider::Rds | Provider::Aurora, Takes::Restart) => ", then reboot the instance",
            (_, Takes::Restart) => ", then restart the server",
        };
        let text = match self {
            Provider::SelfManaged => {
                let mut sql = vec![format!("ALTER SYSTEM SET {name} = '{value}';")];
                let after = match takes {
                    Takes::Reload => "SELECT pg_reload_conf();",
                    Takes::Restart => "-- then restart the server",
                };
                let text = format!("{} {after}", sql[0]);
                if takes == Takes::Reload {
                    sql.push(after.to_owned());
                }
                return Remedy { text, sql };
            }
            Provider::Rds => format!("RDS: set  {name} = {value}  in the instance's parameter group{then}"),
            Provider::Aurora => {
                format!("Aurora: set  {name} = {value}  in the cluster's parameter group{then}")
            }
            Provider::CloudSql => {
                format!(
                    "Cloud SQL: gcloud sql instances patch INSTANCE --database-flags={name}={value}{then}"
                )
            }
            Provider::AlloyDb => {
                format!(
                    "AlloyDB: gcloud alloydb instances update INSTANCE --database-flags={name}={value}{then}"
                )
            }
            Provider::Azure => format!(
                "Azure: az postgres flexible-server parameter set --server-name NAME --name {name} --value {value}{then}"
            ),
            Provider::Supabase => {
                format!("Supabase: supabase postgres-config update --config {name}={value}{then}")
            }
            Provider::Neon => format!(
                "Neon: {name} = {value} is set in the console (Settings, Logical Replication) or by support{then}"
            ),
        };
        Remedy { text, sql: Vec::new() }
    }

    /// Some providers hide the setting behind one of their own.
    fn own_name<'a>(self, name: &'a str, value: &'a str) -> (&'a str, &'a str) {
        match (self, name) {
            (Provider::Rds | Provider::Aurora, "wal_level") => ("rds.logical_replication", "1"),
            (Provider::CloudSql, "wal_level") => ("cloudsql.logical_decoding", "on"),
            (Provider::AlloyDb, "wal_level") => ("alloydb.logical_decoding", "on"),
            _ => (name, value),
        }
    }

    /// How the role gets the right to replicate here.
    pub fn allow_replication(self, role: &str) -> String {
        match self {
            Provider::Rds | Provider::Aurora => format!("GRANT rds_replication TO {role};"),
            _ => format!("ALTER ROLE {role} WITH REPLICATION;"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_has_its_own_remedy() {
        let here = Provider::SelfManaged.set("wal_level", "logical", Takes::Restart);
        assert_eq!(here.text, "ALTER SYSTEM SET wal_level = 'logical'; -- then restart the server");
        assert_eq!(here.sql, ["ALTER SYSTEM SET wal_level = 'logical';"]);
        let keep = Provider::SelfManaged.set("max_slot_wal_keep_size", "20GB", Takes::Reload);
        assert_eq!(keep.sql[1], "SELECT pg_reload_conf();");
        let rds = Provider::Rds.set("wal_level", "logical", Takes::Restart);
        assert!(
            rds.text.contains("rds.logical_replication = 1") && rds.text.contains("reboot"),
            "{}",
            rds.text
        );
        assert!(rds.sql.is_empty());
        let google = Provider::CloudSql.set("wal_level", "logical", Takes::Restart);
        assert!(google.text.contains("cloudsql.logical_decoding=on"), "{}", google.text);
        let azure = Provider::Azure.set("max_replication_slots", "20", Takes::Restart);
        assert!(azure.text.contains("--name max_replication_slots --value 20"), "{}", azure.text);
        assert_eq!(Provider::Aurora.allow_replication("\"x\""), "GRANT rds_replication TO \"x\";");
    }
}
