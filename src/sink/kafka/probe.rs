//! Can the brokers be reached, and do they take us?
//!
//! librdkafka tries to connect for ever, and a call that needs a connection says no more than that it took too long. What
//! went wrong it tells beside the calls: so a client of its own asks once before anything else, and listens.

use super::client::{self, Trouble};
use super::options::KafkaOptions;
use crate::error::{Error, Result, codes};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer;
use std::time::{Duration, Instant};

/// A broker that does not answer in this time is away.
const WITHIN: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(200);
/// The other brokers may take us.
const ANOTHER: Duration = Duration::from_secs(1);

/// Connects and asks for the list of brokers. Blocking.
///
/// # Errors
/// `KF001`, `KF002`, `KF004`.
pub(super) fn probe(options: &KafkaOptions) -> Result<()> {
    let client = client::producer(options, None)?;
    let started = Instant::now();
    let mut refused: Option<Instant> = None;
    loop {
        client.poll(Duration::ZERO);
        // Of no topic: the answer is small, and needs no right.
        let asked = client.client().fetch_metadata(Some(super::CHECKPOINTS), STEP);
        if asked.is_ok() {
            return Ok(());
        }
        client.poll(Duration::ZERO);
        let trouble = client.context().trouble();
        if trouble.as_ref().is_some_and(Trouble::is_refusal) {
            refused.get_or_insert_with(Instant::now);
        }
        let is_over = refused.is_some_and(|since| since.elapsed() > ANOTHER) || started.elapsed() > WITHIN;
        if is_over {
            return Err(told(trouble));
        }
    }
}

fn told(trouble: Option<Trouble>) -> Error {
    let Some(trouble) = trouble else {
        return Error::new(codes::KF001, "Kafka: no broker answers")
            .with_try("check that the brokers run and can be reached");
    };
    let is_tls = trouble.is_tls();
    let Trouble { code, reason } = trouble;
    match code {
        _ if is_tls => Error::new(codes::KF002, format!("Kafka: the TLS connection failed: {reason}"))
            .with_try("check sink.tls.ca (the authority that signed the brokers' certificates), sink.tls.cert and sink.tls.key (where the brokers ask for a certificate), and that the port is one for TLS"),
        RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SaslAuthenticationFailed
        | RDKafkaErrorCode::UnsupportedSASLMechanism
        | RDKafkaErrorCode::IllegalSASLState => {
            Error::new(codes::KF002, format!("Kafka: the brokers refuse the login: {reason}"))
                .with_try("check sink.sasl.user, sink.sasl.password and sink.sasl.mechanism, and that the port is one for SASL")
        }
        _ => Error::new(codes::KF001, format!("Kafka: no broker answers: {reason}"))
            .with_try("check that the brokers run and can be reached, and that sink.tls and sink.sasl are as their port wants it"),
    }
}
