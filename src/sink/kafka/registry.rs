//! A Schema Registry with Confluent's interface: each schema is sent once, and gets the id that stands in front of
//! every record.
//!
//! A schema that changes (a column comes) is sent when the first row of it is staged, before any record of it is produced;
//! the registry decides whether readers of the older ones can follow. A registry that is away is waited for, as brokers
//! are: the session begins again, and nothing of the unit was produced. Ids are remembered as long as the process lives.

use crate::debezium::{Control, ControlKind, Encoder};
use crate::error::{Error, Result, codes};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

/// A registry that does not answer in this time is away.
const WITHIN: Duration = Duration::from_secs(10);
const CONTENT: &str = "application/vnd.schemaregistry.v1+json";
/// So much of an answer that is no JSON is shown.
const SHOWN: usize = 200;

/// Where the registry is, and who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryOptions {
    /// `http://host:8081`, or with a path; without a slash at its end.
    pub url: String,
    /// Basic authentication.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Certificate authorities (PEM) beside the system's.
    pub ca: Option<PathBuf>,
    /// Whether schemas are registered; otherwise they must be there.
    pub register: bool,
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryOptions")
            .field("url", &self.url)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The client.
pub(super) struct Registry {
    client: reqwest::Client,
    options: RegistryOptions,
    /// Ids by subject and schema.
    known: Mutex<BTreeMap<(String, String), u32>>,
}

impl Registry {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// `CF003` for certificates that cannot be read.
    pub(super) fn new(options: &RegistryOptions) -> Result<Self> {
        let broken = |what: String| {
            Error::new(codes::CF003, format!("format.schema_registry.ca: {what}"))
                .with_try("name a file with certificates in PEM")
        };
        let mut builder = reqwest::Client::builder()
            .timeout(WITHIN)
            .connect_timeout(WITHIN)
            .user_agent(concat!("strandline/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &options.ca {
            let text = std::fs::read(path).map_err(|e| broken(format!("{}: {e}", path.display())))?;
            let found = reqwest::Certificate::from_pem_bundle(&text).map_err(|e| broken(e.to_string()))?;
            for certificate in found {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let client = builder.build().map_err(|e| {
            Error::new(codes::KF009, "no client for the schema registry can be made").with_source(e)
        })?;
        Ok(Registry { client, options: options.clone(), known: Mutex::default() })
    }

    /// Gives an encoder the ids of its schemas.
    ///
    /// # Errors
    /// `KF009`, `KF010`, `KF011`.
    pub(super) async fn introduce(&self, encoder: &mut Encoder) -> Result<()> {
        let Some(schemas) = encoder.avro_schemas() else { return Ok(()) };
        let topic = encoder.topic().to_owned();
        let key = match &schemas.key {
            Some(key) => self.id(&format!("{topic}-key"), key).await?,
            None => 0,
        };
        let value = self.id(&format!("{topic}-value"), &schemas.value).await?;
        encoder.set_schema_ids(key, value);
        Ok(())
    }

    /// The same for records beside the tables' own.
    ///
    /// # Errors
    /// As [`Registry::introduce`].
    pub(super) async fn introduce_control(&self, control: &mut Control, kind: ControlKind) -> Result<()> {
        let Some((topic, schemas)) = control.avro_schemas(kind) else { return Ok(()) };
        let key = schemas.key.as_deref().ok_or_else(|| {
            Error::new(codes::RT001, format!("records of the topic \"{topic}\" have no schema of their key"))
        })?;
        let key = self.id(&format!("{topic}-key"), key).await?;
        let value = self.id(&format!("{topic}-value"), &schemas.value).await?;
        control.set_schema_ids(kind, key, value);
        Ok(())
    }

    async fn id(&self, subject: &str, schema: &str) -> Result<u32> {
        let asked = (subject.to_owned(), schema.to_owned());
        if let Some(id) = super::lock(&self.known).get(&asked) {
            return Ok(*id);
        }
        let id = self.ask(subject, schema).await?;
        tracing::debug!(subject, id, "the schema registry knows the schema");
        super::lock(&self.known).insert(asked, id);
        Ok(id)
    }

    async fn ask(&self, subject: &str, schema: &str) -> Result<u32> {
        let mut url = format!("{}/subjects/{}", self.options.url, escaped(subject));
        if self.options.register {
            url.push_str("/versions");
        }
        let body = serde_json::json!({ "schema": schema }).to_string();
        let mut request = self.client.post(&url).header("Content-Type", CONTENT).header("Accept", CONTENT);
        if let Some(user) = &self.options.user {
            request = request.basic_auth(user, self.options.password.as_deref());
        }
        let answer = request.body(body).send().await.map_err(|e| self.away(e))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|e| self.away(e))?;
        let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        if status == 200 {
            let id = json.as_ref().and_then(|json| json["id"].as_u64()).and_then(|id| u32::try_from(id).ok());
            return id.ok_or_else(|| {
                let what = format!("{} answered without an id: {}", self.options.url, cut(&text));
                Error::new(codes::KF010, what).with_try(
                    "check that format.schema_registry.url is that of a registry with Confluent's interface",
                )
            });
        }
        let said = json.as_ref().and_then(|json| json["message"].as_str()).unwrap_or(cut(&text)).to_owned();
        Err(self.refused(subject, status, &said))
    }

    /// The schema under an id.
    ///
    /// # Errors
    /// `KF009`, `KF010`.
    pub(super) async fn schema(&self, id: u32) -> Result<String> {
        let mut request =
            self.client.get(format!("{}/schemas/ids/{id}", self.options.url)).header("Accept", CONTENT);
        if let Some(user) = &self.options.user {
            request = request.basic_auth(user, self.options.password.as_deref());
        }
        let answer = request.send().await.map_err(|e| self.away(e))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|e| self.away(e))?;
        let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let found = json.as_ref().and_then(|json| json["schema"].as_str());
        match found.filter(|_| status == 200) {
            Some(schema) => Ok(schema.to_owned()),
            None => Err(self.refused(&format!("schema {id}"), status, cut(&text))),
        }
    }

    fn away(&self, error: reqwest::Error) -> Error {
        Error::new(codes::KF009, format!("the schema registry {} does not answer", self.options.url))
            .with_source(error.without_url())
            .with_try("nothing, when it comes back; else check format.schema_registry.url")
    }

    fn refused(&self, subject: &str, status: u16, said: &str) -> Error {
        let url = &self.options.url;
        match status {
            401 | 403 => Error::new(codes::KF010, format!("the schema registry {url} refuses the login ({status}): {said}"))
                .with_try("check format.schema_registry.user and password, and the right to register under the subject"),
            409 => Error::new(
                codes::KF011,
                format!("the registry's rules for the subject \"{subject}\" do not allow the new schema: {said}"),
            )
            .with_try(format!(
                "allow the change (curl -X PUT {url}/config/{subject} -H 'Content-Type: application/json' -d '{{\"compatibility\": \"NONE\"}}'), then resync the table"
            )),
            404 if !self.options.register => Error::new(
                codes::KF011,
                format!("the subject \"{subject}\" has no such schema, and format.schema_registry.register is false: {said}"),
            )
            .with_try("register the schema by your own means, then resync the table"),
            422 => Error::new(codes::KF011, format!("the registry refuses the schema for \"{subject}\": {said}"))
                .with_try("names that Avro does not allow: format.debezium.schema_name_adjustment_mode: avro, field_name_adjustment_mode: avro"),
            status if status >= 500 || status == 429 => Error::new(
                codes::KF009,
                format!("the schema registry {url} cannot answer now ({status}): {said}"),
            ),
            _ => Error::new(codes::KF010, format!("the schema registry {url} refuses the request ({status}): {said}"))
                .with_try("check format.schema_registry.url: it may need a path, such as /apis/ccompat/v7"),
        }
    }
}

/// A subject as a part of a path.
fn escaped(subject: &str) -> String {
    url::form_urlencoded::byte_serialize(subject.as_bytes()).collect()
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
