//! A broker with one listener for each way of logging in, and an authorizer.
//!
//! | listener | encrypted | asks for |
//! |---|---|---|
//! | (the plain one) | no | nothing; who comes there may do everything |
//! | `TLS` | yes | nothing; as above |
//! | `MTLS` | yes | a certificate |
//! | `SASL` | no | PLAIN, SCRAM, OAUTHBEARER |
//! | `SASLTLS` | yes | the same |
//!
//! `strandline` / `secret` may do everything, `guest` / `guest` nothing.

use super::kafka::{Broker, java};
use super::ports::Port;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The broker and its doors.
pub(crate) struct Doors {
    pub(crate) broker: Broker,
    dir: PathBuf,
    ports: Vec<(&'static str, Port)>,
}

const LISTENERS: [(&str, &str); 4] =
    [("TLS", "SSL"), ("MTLS", "SSL"), ("SASL", "SASL_PLAINTEXT"), ("SASLTLS", "SASL_SSL")];

impl Doors {
    pub(crate) fn open(dir: &Path) -> Doors {
        std::fs::create_dir_all(dir).expect("the run directory can be written");
        make_certificates(dir);
        let ports = LISTENERS.map(|(name, _)| (name, Port::take())).into_iter().collect::<Vec<_>>();
        let mut broker = Broker::unformatted(dir);
        broker.more = more(&broker, &ports, dir);
        let properties = dir.join("format.properties");
        std::fs::write(&properties, broker.properties()).expect("writable");
        let mut command = java();
        command
            .args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAA", "-c"])
            .arg(&properties);
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            command.arg("--add-scram").arg(format!("{mechanism}=[name=strandline,password=secret]"));
        }
        let output = command.output().expect("java runs");
        assert!(output.status.success(), "format: {}", String::from_utf8_lossy(&output.stderr));
        broker.restart();
        Doors { broker, dir: dir.to_owned(), ports }
    }

    /// `127.0.0.1:PORT` of a listener.
    pub(crate) fn address(&self, listener: &str) -> String {
        let found = self.ports.iter().find(|(name, _)| *name == listener).expect("a listener");
        format!("127.0.0.1:{}", found.1.number())
    }

    /// A certificate or key.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn more(broker: &Broker, ports: &[(&'static str, Port)], dir: &Path) -> String {
    let mut text = String::new();
    let (plain, controller) = broker.ports();
    let own: String =
        ports.iter().map(|(name, port)| format!(",{name}://127.0.0.1:{}", port.number())).collect();
    let protocols: String = LISTENERS.iter().map(|(name, protocol)| format!(",{name}:{protocol}")).collect();
    let dir = dir.display();
    let module = "org.apache.kafka.common.security";
    let _written = writeln!(
        text,
        "listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}{own}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain}{own}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
ssl.keystore.type=PEM
ssl.keystore.location={dir}/server-both.pem
ssl.truststore.type=PEM
ssl.truststore.location={dir}/ca.pem
listener.name.mtls.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:strandline;User:CN=client"
    );
    for listener in ["sasl", "sasltls"] {
        let name = format!("listener.name.{listener}");
        let _written = writeln!(
            text,
            "{name}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
{name}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_strandline=\"secret\" user_guest=\"guest\";
{name}.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;
{name}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;
{name}.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";"
        );
    }
    text
}

fn openssl(dir: &Path, arguments: &str) {
    let output =
        Command::new("openssl").current_dir(dir).args(arguments.split(' ')).output().expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn make_certificates(dir: &Path) {
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for name in ["ca", "other"] {
        openssl(
            dir,
            &format!("req -x509 {new} -days 30 -subj /CN={name} -keyout {name}.key -out {name}.pem"),
        );
    }
    for name in ["server", "client"] {
        openssl(
            dir,
            &format!(
                "req {new} -subj /CN={name} -addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.csr"
            ),
        );
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -copy_extensions copy -out {name}.pem"
            ),
        );
    }
    openssl(dir, "pkcs8 -topk8 -in client.key -out locked.key -passout pass:open");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("openssl wrote it");
    std::fs::write(dir.join("server-both.pem"), read("server.key") + &read("server.pem")).expect("writable");
}
